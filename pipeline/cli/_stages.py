"""A stage's process: wired, watched, drained."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from pipeline.cli._until_told import told_to_stop
from pipeline.cli._wiring import WIRINGS, Place, Wired
from pipeline.errors import PipelineError, Unreachable
from pipeline.http.health import HealthServer
from pipeline.kafka.membership import slot
from pipeline.kafka.metrics import StageCollector
from pipeline.kafka.watchdog import Watchdog
from pipeline.settings import Settings

GRACE_S = 25.0
"""How long what is in flight may take to end when the process is told to stop."""
_NICENESS = {"replayer": 10}
"""What is replayed has waited for days: on a machine that is busy it leaves the processors to what is live."""
_RETRY_S = 1.0
_log = structlog.get_logger()


def run(settings: Settings, role: str, start: str | None, group: str = "", to: str = "") -> None:
    """Run a stage until it is told to stop, then drain. A fault ends the process at once, without a commit.

    `group` and `to` are the operator's own, see `Place`.
    """
    _allow_many_connections()
    os.nice(_NICENESS.get(role, 0))
    with slot(settings, role) as instance:
        uvloop.run(_run(role, Place(settings, instance, start, CollectorRegistry(), group, to)))


async def _run(role: str, place: Place) -> None:
    settings, metrics, reasons = place.settings, place.metrics, ["starting"]
    wired: list[Wired] = []
    told = told_to_stop()

    def not_ready() -> list[str]:
        return reasons or [trouble for one in wired for trouble in _troubles(one)]

    def warnings() -> list[str]:
        return [warning for one in wired if (warning := one.warning()) is not None]

    async with AsyncExitStack() as stack:
        health = HealthServer(settings.health_host, settings.health_port, not_ready, metrics, warnings)
        await stack.enter_async_context(health)
        _log.info("starting", role=role, instance=place.instance, health_port=health.port)
        made = await _made(stack, role, place, told, reasons)
        if made is None:
            return
        wired.append(made)
        StageCollector(made.stage.feed, made.publisher, metrics)
        await work(made, told, reasons)


async def _made(
    stack: AsyncExitStack, role: str, place: Place, told: asyncio.Event, reasons: list[str]
) -> Wired | None:
    """The role, wired; while Kafka or the registry is down it waits and says so. None if it is told to stop."""
    while not told.is_set():
        try:
            return await stack.enter_async_context(WIRINGS[role](place))
        except Unreachable as error:
            if reasons != (said := [f"starting: {error}"]):
                _log.warning("waiting", reason=str(error))
                reasons[:] = said
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), _RETRY_S)
    return None


async def work(wired: Wired, told: asyncio.Event, reasons: list[str]) -> None:
    """Start, wait for the end, drain."""
    watchdog = Watchdog(wired.stage.feed, lambda: bool(_troubles(wired)), wired.startable)
    beside = [asyncio.create_task(work) for work in (*wired.beside, watchdog.run())]
    _collect_less_often()
    await wired.stage.start()
    reasons.clear()
    stop = asyncio.create_task(told.wait())
    ends: set[asyncio.Future[Any]] = {stop, wired.stage.failed, *beside}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    reasons.append("stopping")
    if wired.stage.failed.done():
        _die(wired.stage.failed.result())
    for task in beside:
        if task.done():
            _die(task.exception() or RuntimeError("a task that never ends has ended"))
    ended = await wired.stage.stop(GRACE_S)
    if wired.publisher is not None:
        await wired.publisher.close()
    for task in beside:
        task.cancel()
    _log.info("stopped", drained=ended)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: no endpoint may fail for want of one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_less_often() -> None:
    """Leave what start-up made out of the garbage collector's work, and let it look at the rest less often.

    A delivery makes hundreds of objects that die by themselves: looking for cycles among them took a quarter of the
    time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _die(error: BaseException) -> NoReturn:
    """End the process at once: nothing that still runs may start, send or commit, and none of it is waited for."""
    if isinstance(error, PipelineError):
        _log.error("ended", reason=str(error))
        code = error.exit_code
    else:
        _log.error("ended by a fault of ours", exc_info=error)
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _troubles(wired: Wired) -> list[str]:
    troubles = [*wired.stage.feed.troubles, wired.waiting() or ""]
    if wired.publisher is not None and wired.publisher.silent:
        troubles.append("Kafka does not confirm what is written")
    if not wired.stage.feed.joined:
        troubles.append("the consumer group has not assigned partitions yet")
    return [trouble for trouble in troubles if trouble]
