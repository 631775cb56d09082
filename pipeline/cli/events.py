"""`pipeline events`: send some; follow them as they come; look up what has become of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import Bootstrap, DataDir, Key, Limit, Output, Registry, Tenant, Url, path, rest
from pipeline.cli._output import Format
from pipeline.cli._times import From, To, rfc3339
from pipeline.errors import UsageError
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Send events; follow them; look up what has become of them.")

PARTLY = 3
REFUSED = 2
ACCEPTED = 202
COLUMNS = ("id", "status", "detail")
_LISTED = ("id", "type", "time", "created_at")
_DELIVERIES = ("id", "webhook", "status", "attempt_count", "last_verdict", "last_status_code", "next_attempt_at")
_WHY = ("webhook", "name", "reason", "detail", "subscriptions_offset")
Event = Annotated[str, typer.Argument(help="The event's id.")]
BATCH = 500
BATCH_BYTES = 2 * 1024 * 1024


@app.command()
def send(
    tenant: Tenant,
    *,
    type_: Annotated[str | None, typer.Option("--type", help="The event's type.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="Its data, as JSON.", show_default=False)] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Its id; made up when missing.", show_default=False)
    ] = None,
    time: Annotated[str | None, typer.Option(help="When it happened (RFC 3339).", show_default=False)] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.", show_default=False)] = None,
    subject: Annotated[str | None, typer.Option(help="What it was done to.", show_default=False)] = None,
    source: Annotated[str | None, typer.Option(help="Which service says so.", show_default=False)] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", help="JSON: an event or a list; JSONL: one a line; - for stdin.", show_default=False
        ),
    ] = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Send one event from options, or many from a file. Exit code 3 when some of them were refused."""
    told = {"type": type_, "id": event_id, "time": time, "actor": actor, "subject": subject, "source": source}
    texts = [from_options(told, data)] if file is None else list(_from_file(file, told, data))
    with rest(url, key, data_dir) as api:
        items = [
            item
            for batch in _batches(texts)
            for item in api.post(path("tenants", tenant, "events"), _body(batch))["items"]
        ]
    _output.rows(items, COLUMNS, output)
    _end(items)


@app.command()
def tail(
    *,
    start: Annotated[
        str, typer.Option("--from", help="earliest, latest, -2h, an ISO 8601 time, or @ and milliseconds.")
    ] = "latest",
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.", show_default=False)] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only of this type; prefix* for several.", show_default=False)
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many.", show_default=False)
    ] = None,
    output: Output = Format.TABLE,
    bootstrap_server: Bootstrap = None,
    schema_registry: Registry = None,
) -> None:
    """Follow the events on Kafka, of both kinds, until Ctrl-C."""
    from pipeline.cli._tail import Wanted, follow, start_of  # noqa: PLC0415 - Kafka's client, for this command alone

    begin = start_of(start)
    settings = Settings.read(bootstrap_servers=bootstrap_server, schema_registry=schema_registry)
    settings.require("bootstrap_servers", "schema_registry")
    asyncio.run(follow(settings, begin, Wanted(tenant, type_), count, output))


@app.command("list")
def list_(
    tenant: Tenant,
    *,
    type_: Annotated[str | None, typer.Option("--type", help="Only of this type.", show_default=False)] = None,
    from_: From = None,
    to: To = None,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """The tenant's events, newest first."""
    span = {"from": rfc3339("--from", from_), "to": rfc3339("--to", to)}
    with rest(url, key, data_dir) as api:
        _output.rows(api.all(path("tenants", tenant, "events"), limit, type=type_, **span), _LISTED, output)


@app.command()
def show(
    tenant: Tenant,
    event: Event,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """One event with its data and its deliveries."""
    with rest(url, key, data_dir) as api:
        shown = api.get(path("tenants", tenant, "events", event))
    _output.record_with(shown, "deliveries", _DELIVERIES, output)


@app.command()
def explain(
    tenant: Tenant,
    event: Event,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 200,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Why each webhook did or did not get it, judged by the records as they are now."""
    with rest(url, key, data_dir) as api:
        _output.rows(api.all(path("tenants", tenant, "events", event, "explain"), limit), _WHY, output)


def from_options(told: dict[str, Any], data: str | None) -> str:
    """The event as text, its data exactly as it was given."""
    import orjson  # noqa: PLC0415

    if not told["type"]:
        raise UsageError("say which event: --type and --data, or --file")
    text = "null" if data is None else data
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"--data is not JSON: {error}") from error
    parts = [f"{orjson.dumps(name).decode()}:{orjson.dumps(value).decode()}" for name, value in told.items() if value]
    return "{" + ",".join([*parts, f'"data":{text}']) + "}"


def _from_file(file: str, told: dict[str, Any], data: str | None) -> Iterator[str]:
    if data is not None or any(told.values()):
        raise UsageError("give either --file or an event's options")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    return _taken_apart(file, text)


def _taken_apart(file: str, text: str) -> Iterator[str]:
    """Each event's own text: the whole file, the elements of its list, or its lines."""
    import orjson  # noqa: PLC0415

    from pipeline.api import raw  # noqa: PLC0415

    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from _lines(file, text)
    else:
        yield from (text[start:end] for start, end in raw.elements(text)) if isinstance(whole, list) else (text,)


def _lines(file: str, text: str) -> Iterator[str]:
    import orjson  # noqa: PLC0415

    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            orjson.loads(row)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number}: not JSON: {error}") from error
        yield row


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Of at most 500 events and about 2 MiB, below what the API takes at once."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) >= BATCH or size + len(text) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _body(texts: list[str]) -> bytes:
    return ('{"events":[' + ",".join(texts) + "]}").encode()


def _end(items: list[dict[str, Any]]) -> None:
    """The exit code: 0 when all are stored, 2 when none is, 3 when some are. What was only warned of is said."""
    for item in items:
        for warning in item.get("warnings", ()):
            _output.aside(f"pipeline: warning: event {item['id']}: {warning['field']}: {warning['message']}")
    refused = sum(item["status"] != ACCEPTED for item in items)
    if refused:
        _output.aside(f"pipeline: {refused} of {len(items)} events were refused")
        raise typer.Exit(REFUSED if refused == len(items) else PARTLY)
