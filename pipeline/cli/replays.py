"""`pipeline replays`: a window of the log again, to whom you like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import _course, _output
from pipeline.cli._options import DataDir, Key, Limit, Output, Url, path, rest
from pipeline.cli._order import Detach, begin, missing, show_replay, spans, to_its_end
from pipeline.cli._output import Format
from pipeline.cli._times import FORMS, rfc3339
from pipeline.cli.webhooks import Algorithm, AuthType, Password, Secret, Username, auth_of
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.http.rest import Rest

app = typer.Typer(no_args_is_help=True, help="A window of the log again, to whom you like.")

COLUMNS = (
    "id",
    "tenant",
    "state",
    "source",
    "from",
    "to",
    "webhooks",
    "outcome",
    "reached",
    "deliveries",
    "created_at",
)
_REPLAYS = "/v1/replays"
_SPAN = re.compile(r"(\d+):(\d+)-(\d+)")

Ident = Annotated[str, typer.Argument(metavar="REPLAY", help="The replay's id.", show_default=False)]
OfTenant = Annotated[
    str | None,
    typer.Option("--tenant", help="Whose events; yours, or with the platform's key everybody's.", show_default=False),
]
From = Annotated[str | None, typer.Option("--from", help=f"What came then or later: {FORMS}.", show_default=False)]
To = Annotated[str | None, typer.Option("--to", help="What came before then; now.", show_default=False)]
Offsets = Annotated[
    list[str] | None,
    typer.Option(
        "--offsets",
        metavar="PARTITION:FROM-TO",
        help="In place of times: from FROM on, before TO; may be repeated.",
        show_default=False,
    ),
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="An event type or prefix*; may be repeated.", show_default=False)
]
Webhooks = Annotated[
    list[str] | None,
    typer.Option("--webhook", help="To this webhook, old or new; may be repeated; all.", show_default=False),
]
OutcomeName = Annotated[
    str | None,
    typer.Option(
        "--outcome", help="all, failed, skipped, never_routed or missed (any of the three).", show_default=False
    ),
]
Target = Annotated[
    str | None, typer.Option("--url", help="To this URL alone, in this replay alone.", show_default=False)
]
Rate = Annotated[float | None, typer.Option(help="Deliveries per second at most.", show_default=False)]


@app.command()
def plan(
    *,
    tenant: OfTenant = None,
    from_: From = None,
    to: To = None,
    offsets: Offsets = None,
    type_: Types = None,
    webhook: Webhooks = None,
    outcome: OutcomeName = None,
    target: Target = None,
    auth_type: AuthType = None,
    secret: Secret = None,
    algorithm: Algorithm = None,
    username: Username = None,
    password: Password = None,
    rate: Rate = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Count what a replay would send, to whom, and how long it would take. Nothing is written."""
    auth = {"type": auth_type, "secret": secret, "algorithm": algorithm, "username": username, "password": password}
    whom = {"tenant": tenant, "types": type_, "webhooks": webhook, "outcome": outcome, "rate": rate}
    body = _given(_window_of(from_, to, offsets), whom, {"target": _target(target, auth)})
    with rest(url, key, data_dir) as api:
        _show_plan(_plan(api, body), output)


@app.command()
def start(
    *,
    tenant: OfTenant = None,
    from_: From = None,
    to: To = None,
    offsets: Offsets = None,
    type_: Types = None,
    webhook: Webhooks = None,
    outcome: OutcomeName = None,
    target: Target = None,
    auth_type: AuthType = None,
    secret: Secret = None,
    algorithm: Algorithm = None,
    username: Username = None,
    password: Password = None,
    rate: Rate = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without this it is only planned.")] = False,
    detach: Detach = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Plan a replay, and with --execute start it and follow it to its end.

    What is started is what was planned, by its offsets: an event that comes meanwhile is not in it. Exit code 1 if it
    fails, 3 if somebody pauses or cancels it meanwhile. Ctrl-C ends the looking, not the replay.
    """
    auth = {"type": auth_type, "secret": secret, "algorithm": algorithm, "username": username, "password": password}
    whom = {"tenant": tenant, "types": type_, "webhooks": webhook, "outcome": outcome, "rate": rate}
    rest_of_it = _given(whom, {"target": _target(target, auth)})
    with rest(url, key, data_dir) as api:
        counted = _plan(api, {**_given(_window_of(from_, to, offsets)), **rest_of_it})
        if not execute or not counted["deliveries"]:
            _show_plan(counted, output)
            _output.aside("nothing is sent: give --execute" if counted["deliveries"] else "there is nothing to send")
            return
        _output.aside(_said(counted))
        begin(api, _REPLAYS, {"offsets": counted["window"], **rest_of_it}, output, detach=detach)


@app.command()
def show(
    ident: Ident,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it has ended or is paused.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """One replay: what was ordered, how far it is, and what became of its deliveries."""
    with rest(url, key, data_dir) as api:
        shown = api.get(path("replays", ident))
        if follow:
            to_its_end(api, shown, output)
        else:
            show_replay(shown, output)


@app.command()
def pause(
    ident: Ident, *, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """Stop for now. What has been written already still goes."""
    with rest(url, key, data_dir) as api:
        show_replay(api.post(path("replays", ident, "pause")), output)


@app.command()
def resume(
    ident: Ident, *, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """Go on where it was paused."""
    with rest(url, key, data_dir) as api:
        show_replay(api.post(path("replays", ident, "resume")), output)


@app.command()
def cancel(
    ident: Ident, *, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """Stop for good. What has not been sent yet is not sent any more."""
    with rest(url, key, data_dir) as api:
        show_replay(api.post(path("replays", ident, "cancel")), output)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant's events.", show_default=False)] = None,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """The replays, newest first; redrives of dead letters too."""
    with rest(url, key, data_dir) as api:
        found = api.all(_REPLAYS, limit, tenant=tenant)
        _output.rows(map(_row, found) if output is Format.TABLE else found, COLUMNS, output)


def _given(*parts: dict[str, Any]) -> dict[str, Any]:
    """The body of the request: what was given."""
    return {name: value for part in parts for name, value in part.items() if value not in (None, [])}


def _window_of(from_: str | None, to: str | None, offsets: list[str] | None) -> dict[str, Any]:
    return {"from": rfc3339("--from", from_), "to": rfc3339("--to", to), "offsets": list(map(_span, offsets or ()))}


def _span(text: str) -> dict[str, int]:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"--offsets {text!r}: write PARTITION:FROM-TO, such as 0:100-200")
    return dict(zip(("partition", "from", "to"), map(int, found.groups()), strict=True))


def _target(address: str | None, auth: dict[str, str | None]) -> dict[str, Any] | None:
    if address is not None:
        return {"url": address, **auth_of(**auth)}
    if any(auth.values()):
        raise UsageError("--auth-type, --secret, --algorithm, --username and --password are for --url")
    return None


def _plan(api: Rest, body: dict[str, Any]) -> dict[str, Any]:
    return _course.planned(api.follow(_REPLAYS, {**body, "dry_run": True}))


def _show_plan(counted: dict[str, Any], output: Format) -> None:
    shown = {**counted, "window": spans(counted["window"]), "gap": counted["gap"] and missing(counted["gap"])}
    _output.record(shown if output is Format.TABLE else counted, output)


def _row(replay: dict[str, Any]) -> dict[str, Any]:
    reached = replay["progress"]
    more = {"reached": _course.percent(reached), "deliveries": reached["deliveries"]} if reached else {}
    return {**replay, **more}


def _said(counted: dict[str, Any]) -> str:
    """The plan in a line."""
    whole = f"{counted['deliveries']:,} deliveries of {counted['events']:,} events"
    again = f", {counted['again']:,} of them again" if counted["again"] else ""
    gap = f"; {missing(counted['gap'])}" if counted["gap"] else ""
    return f"{whole}{again}, at {counted['rate']:g}/s at most{gap}"
