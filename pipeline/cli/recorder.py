"""`pipeline recorder`: the delivery log, made again from the topics."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, suppress
from dataclasses import replace

import typer
import uvloop
from prometheus_client import CollectorRegistry

from pipeline.cli import _output
from pipeline.cli._logs import configure
from pipeline.cli._options import Bootstrap, DataDir, Registry, with_kafka
from pipeline.cli._stages import work
from pipeline.cli._until_told import INTERRUPTED, told_to_stop
from pipeline.cli._wiring import Place, recorder
from pipeline.errors import Unreachable
from pipeline.kafka import starts, topics
from pipeline.kafka.lag import Offsets, ends_of, left
from pipeline.kafka.membership import slot
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The delivery log.")

GROUP = "pipeline-recorder"
_LOOK_S = 0.5
_TELL_S = 5.0


@app.callback()
def _recorder() -> None:
    """The delivery log."""


@app.command()
def rebuild(bootstrap_server: Bootstrap = None, schema_registry: Registry = None, data_dir: DataDir = None) -> None:
    """Empty the delivery log, and record the topics again from their beginnings to where they end now.

    Refused while a recorder runs (stop it; `pipeline up --recorders 0` starts none). What Kafka has removed meanwhile
    is not in the log afterwards. If it is cut, run it again, or start a recorder: that goes on where it was.
    """
    settings = with_kafka(
        Settings.read(bootstrap_servers=bootstrap_server, schema_registry=schema_registry, data_dir=data_dir)
    )
    settings.require("bootstrap_servers", "schema_registry")
    configure(settings.log_level)
    raise typer.Exit(uvloop.run(_rebuild(settings)))


async def _rebuild(settings: Settings) -> int:
    told, reached = told_to_stop(), asyncio.Event()
    ends = await asyncio.to_thread(_begin, settings)
    with slot(settings, "recorder") as instance:
        async with recorder(Place(settings, instance, None, CollectorRegistry())) as wired:
            following = _follow(settings, ends, told, reached)
            await work(replace(wired, beside=(*wired.beside, following)), told, [])
    if not reached.is_set():
        _output.aside("cut in the middle: run it again, or start a recorder, which goes on where this has ended")
        return INTERRUPTED
    _output.text("the log is made again")
    return 0


def _begin(settings: Settings) -> Offsets:
    """Empty the log and set the group back; where the topics end."""
    from pipeline.store.log import log_url, open_log  # noqa: PLC0415 - SQLAlchemy: not for `--help`

    names, client = topics.GROUPS[GROUP], topics.admin(settings)
    with closing(open_log(log_url(settings))) as log:
        starts.anew(settings, GROUP, names, log.clear)
    counts = topics.existing(client)
    return ends_of(client, [(name, number) for name in names for number in range(counts[name])])


async def _follow(settings: Settings, ends: Offsets, told: asyncio.Event, reached: asyncio.Event) -> None:
    """Tell how far it is; when all has been recorded, tell the stage to stop."""
    client, whole = await asyncio.to_thread(topics.admin, settings), sum(ends.values())
    told_s = time.monotonic()
    while not reached.is_set():
        with suppress(Unreachable):  # the stage says so, and goes on when Kafka does
            rest = await asyncio.to_thread(left, client, GROUP, ends)
            if not rest:
                reached.set()
            elif time.monotonic() - told_s > _TELL_S:
                told_s = time.monotonic()
                _output.aside(f"{100 * (whole - rest) // whole} % done, {rest:,} records left")
        await asyncio.sleep(_LOOK_S)
    told.set()
    await asyncio.Event().wait()
