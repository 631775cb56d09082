"""`pipeline keys`: who may use the API."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Limit, Output, Url, path, rest
from pipeline.cli._output import Format

app = typer.Typer(no_args_is_help=True, help="Who may use the API.")

COLUMNS = ("id", "prefix", "role", "tenant", "name", "created_at", "revoked_at")
ROLES = "platform_admin, owner, admin, manager, viewer or ingest"
Ident = Annotated[str, typer.Argument(metavar="KEY", help="The key's id.", show_default=False)]


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 200,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """The keys, newest first, revoked ones too: your tenant's, or all with the platform's key."""
    with rest(url, key, data_dir) as api:
        _output.rows(api.all("/v1/keys", limit, tenant=tenant), COLUMNS, output)


@app.command()
def show(
    ident: Ident, *, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """One key; its secret is kept nowhere."""
    with rest(url, key, data_dir) as api:
        _output.record(api.get(path("keys", ident)), output)


@app.command()
def create(
    role: Annotated[str, typer.Option(help=f"What it may do: {ROLES}.", show_default=False)],
    tenant: Annotated[
        str | None, typer.Option(help="All that it reaches; yours, when it is not given.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key. It is shown this once."""
    given = {"role": role, "tenant": tenant, "name": name}
    with rest(url, key, data_dir) as api:
        made = api.post("/v1/keys", {field: value for field, value in given.items() if value is not None})
    _output.record(made, output)
    _output.aside("keep the key now: it is not shown again")


@app.command()
def revoke(ident: Ident, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Revoke a key: from now on it opens nothing."""
    with rest(url, key, data_dir) as api:
        api.delete(path("keys", ident))
    _output.aside(f"key {ident} is revoked")
