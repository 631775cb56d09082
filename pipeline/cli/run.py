"""`pipeline run ROLE`: one process of a consumer group."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
import uvloop
from prometheus_client import CollectorRegistry

from pipeline.cli._roles import ROLES, Place, Role
from pipeline.errors import PipelineError, UsageError
from pipeline.http.health import HealthServer
from pipeline.kafka.membership import slot
from pipeline.kafka.metrics import StageCollector
from pipeline.settings import Settings

GRACE_S = 25.0
_log = structlog.get_logger()


app = typer.Typer()


@app.command(no_args_is_help=True)
def command(  # noqa: PLR0917 - Typer's options
    role: Annotated[str, typer.Argument(help="router, sender, delay or api.")],
    start: Annotated[str, typer.Option("--from", help="earliest, latest or a time: for a group without offsets.")] = "",
    health_port: Annotated[int | None, typer.Option(help="/healthz, /readyz, /metrics; 0: any free one.")] = None,
    bootstrap_server: Annotated[str | None, typer.Option(help="Kafka, as HOST:PORT[,HOST:PORT…].")] = None,
    schema_registry: Annotated[str | None, typer.Option(help="The registry's URL, of its Confluent API.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the slots of static members are locked.")] = None,
) -> None:
    """Run one process of a role until SIGTERM or Ctrl-C, then drain."""
    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}: {', '.join(ROLES)}")
    settings = Settings.read(
        health_port=health_port,
        bootstrap_servers=bootstrap_server,
        schema_registry=schema_registry,
        data_dir=data_dir,
    )
    settings.require("bootstrap_servers", "schema_registry")
    with slot(settings, role) as instance:
        uvloop.run(_run(settings, role, instance, start or None))


async def _run(settings: Settings, role: str, instance: str, start: str | None) -> None:
    metrics, reasons = CollectorRegistry(), ["starting"]
    wired: list[Role] = []
    told = _told_to_stop()

    def not_ready() -> list[str]:
        return reasons or [reason for one in wired for reason in _troubles(one)]

    async with AsyncExitStack() as stack:
        health = await stack.enter_async_context(
            HealthServer(settings.health_host, settings.health_port, not_ready, metrics)
        )
        _log.info("starting", role=role, instance=instance, health_port=health.port)
        made = await stack.enter_async_context(ROLES[role](Place(settings, instance, start, metrics)))
        wired.append(made)
        StageCollector(made.stage.feed, made.publisher, metrics)
        await _work(made, told, reasons)


async def _work(role: Role, told: asyncio.Event, reasons: list[str]) -> None:
    """Start, wait for the end, drain."""
    beside = [asyncio.create_task(work) for work in role.beside]
    await role.stage.start()
    reasons.clear()
    stop = asyncio.create_task(told.wait())
    ends: set[asyncio.Future[Any]] = {stop, role.stage.failed, *beside}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    reasons.append("stopping")
    if role.stage.failed.done():
        _die(role.stage.failed.result())
    for task in beside:
        if task.done():
            _die(task.exception() or RuntimeError("a task that never ends has ended"))
    ended = await role.stage.stop(GRACE_S)
    await role.publisher.close()
    for task in beside:
        task.cancel()
    _log.info("stopped", drained=ended)


def _die(error: BaseException) -> NoReturn:
    """End the process at once: nothing that still runs may start, send or commit, and none of it need be waited for."""
    if isinstance(error, PipelineError):
        _log.error("ended", reason=str(error))
        code = error.exit_code
    else:
        _log.error("ended by a fault of ours", exc_info=error)
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _told_to_stop() -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def _troubles(role: Role) -> list[str]:
    troubles = [role.waiting() or ""]
    if role.publisher.silent:
        troubles.append("Kafka does not confirm what is written")
    if not role.stage.feed.joined:
        troubles.append("the consumer group has not assigned partitions yet")
    return [trouble for trouble in troubles if trouble]
