"""`pipeline dead-letters`: what could not be delivered or read, and bringing it back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Limit, Output, Url, path, rest
from pipeline.cli._order import Detach, begin
from pipeline.cli._output import Format
from pipeline.cli._times import From, To, rfc3339
from pipeline.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="What could not be delivered or read, and bringing it back.")

COLUMNS = ("id", "created_at", "reason", "state", "tenant", "webhook", "type", "event", "detail")
_GROUPS = ("value", "tenant", "count", "oldest_at", "newest_at")
_LETTERS = path("dead-letters")
_SHOWN_CHARACTERS = 2_000

Letter = Annotated[str, typer.Argument(metavar="LETTER", help="The dead letter's id.", show_default=False)]
Letters = Annotated[list[str], typer.Argument(metavar="LETTER...", help="Their ids.", show_default=False)]
Chosen = Annotated[str | None, typer.Argument(metavar="[LETTER]", help="This one, at once.", show_default=False)]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="Of this tenant; yours, or all with the platform's key.")
]
Webhook = Annotated[str | None, typer.Option("--webhook", help="Of this webhook.", show_default=False)]
Reason = Annotated[
    str | None, typer.Option("--reason", help="exhausted, gone, rejected, unknown_schema, …", show_default=False)
]
Type = Annotated[str | None, typer.Option("--type", help="Of this event type.", show_default=False)]


@app.command("list")
def list_(
    *,
    tenant: OfTenant = None,
    webhook: Webhook = None,
    reason: Reason = None,
    type_: Type = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, under_way, redriven or discarded.", show_default=False)
    ] = None,
    from_: From = None,
    to: To = None,
    group_by: Annotated[
        str | None, typer.Option(help="Count them by reason, tenant, webhook or type instead.", show_default=False)
    ] = None,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Dead letters, newest first; or how many there are of what."""
    which = {**_which(tenant, webhook, reason, type_), **_span(from_, to), "state": state}
    with rest(url, key, data_dir) as api:
        if group_by is None:
            _output.rows(api.all(_LETTERS, limit, **which), COLUMNS, output)
        else:
            counted = api.get(_LETTERS, group_by=group_by, **which)
            _output.record_with(counted, "groups", _GROUPS, output)


@app.command()
def show(
    letter: Letter, *, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """One dead letter with its record and its last attempt; long values are cut but in JSON."""
    with rest(url, key, data_dir) as api:
        shown = api.get(path("dead-letters", letter))
    _output.record({name: _cut(value) for name, value in shown.items()} if output is Format.TABLE else shown, output)


@app.command()
def redrive(
    letter: Chosen = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    tenant: OfTenant = None,
    webhook: Webhook = None,
    reason: Reason = None,
    type_: Type = None,
    from_: From = None,
    to: To = None,
    rate: Annotated[float | None, typer.Option(help="Deliveries per second at most.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; so it is without --execute, too.")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without this they are only counted.")] = False,
    detach: Detach = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Bring dead letters back: the one that is named, at once; or those that wait and fit the filters, or --all.

    These are counted, and with --execute ordered and followed to their end, as a replay is. Exit code 1 if it fails, 3
    if somebody pauses or cancels it meanwhile.
    """
    which = {**_which(tenant, webhook, reason, type_), **_span(from_, to)}
    _require_choice(letter, which, every=every)
    if letter is not None and dry_run:
        raise UsageError("a dead letter that is named is redriven at once: `pipeline dead-letters show` looks at it")
    with rest(url, key, data_dir) as api:
        if letter is not None:
            _output.record(api.post(path("dead-letters", letter, "redrive")), output)
            return
        body = {name: value for name, value in {**which, "rate": rate}.items() if value is not None}
        counted = api.post(f"{_LETTERS}/redrive", {**body, "dry_run": True})
        if dry_run or not execute or not counted["letters"]:
            _output.record(counted, output)
            _output.aside("nothing is sent: give --execute" if counted["letters"] else "no dead letter waits that fits")
            return
        _output.aside(f"dead letters: {counted['letters']:,}, at {counted['rate']:g}/s at most")
        begin(api, f"{_LETTERS}/redrive", body, output, detach=detach)


@app.command()
def discard(letters: Letters, *, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Set dead letters aside for good: they are kept, and cannot be redriven any more."""
    with rest(url, key, data_dir) as api:
        for letter in letters:
            api.delete(path("dead-letters", letter))
            _output.aside(f"dead letter {letter} is discarded")


def _require_choice(letter: str | None, which: dict[str, Any], *, every: bool) -> None:
    """Raise `UsageError`: nobody redrives all by leaving something out."""
    given = [letter is not None, any(which.values()), every]
    if sum(given) != 1:
        raise UsageError("name a dead letter, or give filters, or --all for all that wait")


def _which(tenant: str | None, webhook: str | None, reason: str | None, type_: str | None) -> dict[str, Any]:
    return {"tenant": tenant, "webhook": webhook, "reason": reason, "type": type_}


def _span(from_: str | None, to: str | None) -> dict[str, Any]:
    return {"from": rfc3339("--from", from_), "to": rfc3339("--to", to)}


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{value[:_SHOWN_CHARACTERS]}… ({len(value):,} characters: -o json shows all)"
    return value
