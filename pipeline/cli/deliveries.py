"""`pipeline deliveries`: what was sent to whom, and what came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Limit, Output, Tenant, Url, path, rest
from pipeline.cli._output import Format
from pipeline.cli._times import From, To, rfc3339

app = typer.Typer(no_args_is_help=True, help="What was sent to whom, and what came of it.")

COLUMNS = (
    "id",
    "created_at",
    "status",
    "attempt_count",
    "last_verdict",
    "next_attempt_at",
    "event",
    "type",
    "webhook",
)
_ATTEMPTS = ("attempt", "round", "started_at", "verdict", "status_code", "duration_ms", "next")
Delivery = Annotated[str, typer.Argument(help="The delivery's id, which its endpoint sees as webhook-id.")]


@app.command("list")
def list_(
    tenant: Tenant,
    *,
    webhook: Annotated[str | None, typer.Option(help="Of this webhook.", show_default=False)] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="pending, retrying, delivered, failed, cancelled; may be repeated.", show_default=False),
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this event type.", show_default=False)] = None,
    replay: Annotated[str | None, typer.Option(help="Written by this replay.", show_default=False)] = None,
    from_: From = None,
    to: To = None,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """The tenant's deliveries, newest first."""
    narrow = {"from": rfc3339("--from", from_), "to": rfc3339("--to", to), "replay": replay}
    with rest(url, key, data_dir) as api:
        found = api.all(_path(tenant), limit, webhook=webhook, status=status, type=type_, **narrow)
        _output.rows(found, COLUMNS, output)


@app.command()
def show(
    tenant: Tenant,
    delivery: Delivery,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """One delivery with its attempts and its body."""
    with rest(url, key, data_dir) as api:
        shown = api.get(_path(tenant, delivery))
    _output.record_with(shown, "attempts", _ATTEMPTS, output)


@app.command()
def redeliver(
    tenant: Tenant,
    delivery: Delivery,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Send it again, with the same id and the same body, once it has ended."""
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant, delivery, "redeliver")), output)


@app.command()
def cancel(
    tenant: Tenant,
    delivery: Delivery,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Stop trying; says when it will have ended."""
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant, delivery, "cancel")), output)


def _path(tenant: str, *more: str) -> str:
    return path("tenants", tenant, "deliveries", *more)
