"""How a stage works through a batch: in turn for a worker that only decides, many at once for one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import cast

import structlog

from pipeline.errors import Unreachable
from pipeline.kafka.codec import Codec
from pipeline.kafka.feed import Batch
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.tracker import Progress
from pipeline.ports import Outgoing, Record

UNFINISHED = 1_000
"""Records that a stage of this kind works on at the same time, at most."""
_RETRY_S = 0.5
_log = structlog.get_logger()

Fail = Callable[[BaseException], None]


@dataclass(slots=True)
class Learning:
    """Asks the registry for the schemas of a batch; while it is down the stage waits, and `waiting` says so."""

    codec: Codec
    others: Callable[[], Iterable[bytes]] = tuple
    """Values that are decoded beside the batch: those of the views."""
    waiting: str | None = None

    async def __call__(self, batch: Batch) -> None:
        """Return when every schema of the batch is known, or known to be unknown."""
        while True:
            try:
                await self.codec.learn(chain((record.value for record, _ in batch), self.others()))
            except Unreachable as error:
                if self.waiting is None:
                    _log.warning("waiting", reason=str(error))
                self.waiting = str(error)
                await asyncio.sleep(_RETRY_S)
            else:
                self.waiting = None
                return


@dataclass(slots=True)
class Deciding:
    """For a worker that turns a record into others: a record is finished when all of them are reported durable."""

    worker: Callable[[Record], Iterable[Outgoing]]
    publisher: Publisher
    learn: Learning
    caught_up: Callable[[Batch], Awaitable[None]]
    fail: Fail

    async def __call__(self, batch: Batch) -> None:
        """Return when all of the batch has been handed to the publisher."""
        await self.caught_up(batch)
        await self.learn(batch)
        for record, progress in batch:
            if progress.start():
                await self.publisher.room()
                self._forward(record, progress)

    def _forward(self, record: Record, progress: Progress) -> None:
        reports = [self.publisher.publish(out) for out in self.worker(record)]
        if not reports:
            progress.finish(record.offset)
        elif len(reports) == 1:
            reports[0].add_done_callback(partial(self._finish, record.offset, progress))
        else:
            asyncio.gather(*reports).add_done_callback(partial(self._finish, record.offset, progress))

    def _finish(self, offset: int, progress: Progress, reported: asyncio.Future[object]) -> None:
        if (error := reported.exception()) is not None:
            self.fail(error)
        else:
            progress.finish(offset)


@dataclass(slots=True)
class Doing:
    """For a worker that waits for the world: up to `at_once` records are being answered together.

    A record that has its answer and waits for the broker's report makes room for the next; up to `UNFINISHED` may wait.
    """

    worker: Callable[[Record, Callable[[], None]], Awaitable[None]]
    publisher: Publisher
    learn: Learning
    fail: Fail
    at_once: int
    answering: asyncio.Semaphore = field(init=False)
    unfinished: asyncio.Semaphore = field(init=False)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.answering = asyncio.Semaphore(self.at_once)
        self.unfinished = asyncio.Semaphore(UNFINISHED)

    async def __call__(self, batch: Batch) -> None:
        """Return when all of the batch is under way."""
        await self.learn(batch)
        for record, progress in batch:
            await self.publisher.room()
            await self.unfinished.acquire()
            await self.answering.acquire()
            if progress.start():
                self.tasks.add(asyncio.create_task(self._one(record, progress)))
            else:
                self.answering.release()
                self.unfinished.release()

    async def _one(self, record: Record, progress: Progress) -> None:
        answered = _Once(self.answering.release)
        try:
            await self.worker(record, answered)
        except Exception as error:  # noqa: BLE001 - none may pass for a finished record
            self.fail(error)
        else:
            progress.finish(record.offset)
        finally:
            answered()
            self.unfinished.release()
            self.tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))


class _Once:
    """Calls a function the first time that it is called."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[], None]) -> None:
        self._then: Callable[[], None] | None = then

    def __call__(self) -> None:
        if self._then is not None:
            self._then()
            self._then = None
