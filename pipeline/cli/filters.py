"""`pipeline filters`: what a filter and a projection make of an event."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Output, Tenant, Url, path, rest
from pipeline.cli._output import Format
from pipeline.cli.events import from_options
from pipeline.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="What a filter and a projection make of an event.")

Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="JMESPATH", help="Which events it gets; '' for all.", show_default=False),
]
Projection = Annotated[
    str | None,
    typer.Option(
        "--projection", metavar="JMESPATH", help="What of an event it gets; '' for its data.", show_default=False
    ),
]


@app.callback()
def _filters() -> None:
    """Nothing is stored or sent."""


@app.command("test")
def try_(
    tenant: Tenant,
    *,
    webhook: Annotated[str | None, typer.Option(help="Try this one's.", show_default=False)] = None,
    filter_: Filter = None,
    projection: Projection = None,
    type_: Annotated[str, typer.Option("--type", help="The event's type.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="Its data, as JSON.", show_default=False)] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.", show_default=False)] = None,
    subject: Annotated[str | None, typer.Option(help="What it was done to.", show_default=False)] = None,
    source: Annotated[str | None, typer.Option(help="Which service says so.", show_default=False)] = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Try a filter, a projection or both on an event, or those of a webhook."""
    import orjson  # noqa: PLC0415

    if webhook is None and filter_ is None and projection is None:
        raise UsageError("nothing to try: give --filter, --projection or --webhook")
    event = from_options({"type": type_, "actor": actor, "subject": subject, "source": source}, data)
    given = written(filter_, projection)
    parts = [f'"{name}":{orjson.dumps(text).decode()}' for name, text in given.items()]
    body = ("{" + ",".join([*parts, f'"event":{event}']) + "}").encode()
    where = ("webhooks", webhook) if webhook else ()
    with rest(url, key, data_dir) as api:
        _output.record(api.post(path("tenants", tenant, *where, "filter", "test"), body), output)


def written(filter_: str | None, projection: str | None) -> dict[str, str | None]:
    """The fields that were given; an empty one takes away."""
    given = {"filter": filter_, "projection": projection}
    return {name: text or None for name, text in given.items() if text is not None}
