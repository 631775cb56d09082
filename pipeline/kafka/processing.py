"""How a stage works through a batch: in turn for a worker that only decides, many at once for one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import structlog

from pipeline.errors import Unreachable
from pipeline.kafka.codec import Codec
from pipeline.kafka.feed import Batch
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.tracker import Progress
from pipeline.ports import Outgoing, Record, Work

UNFINISHED = 10_000
"""Records that a stage of this kind works on at the same time, at most; most of them only wait."""
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
        await self.schemas_of([record.value for record, _ in batch])

    async def schemas_of(self, values: Sequence[bytes | None]) -> None:
        """The same for these values."""
        while True:
            try:
                await self.codec.learn(chain(values, self.others()))
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
            if progress.start(record.offset):
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


class _Handle:
    """Implements `ports.Work`: one record's place among the answering, and its offset."""

    __slots__ = ("_answering", "_offset", "_progress", "_released")

    def __init__(self, progress: Progress, offset: int, answering: asyncio.Semaphore) -> None:
        self._progress, self._offset, self._released = progress, offset, False
        self._answering: asyncio.Semaphore | None = answering

    @property
    def open(self) -> bool:
        return self._progress.open

    @property
    def lost(self) -> bool:
        return self._progress.lost

    def answered(self) -> None:
        if self._answering is not None:
            self._answering.release()
            self._answering = None
            self._progress.answered()

    def release(self) -> None:
        if not self._released:
            self._released = True
            self.answered()
            self._progress.release(self._offset)

    def end(self) -> None:
        self.answered()
        self._progress.end(self._offset)


@dataclass(slots=True)
class Doing:
    """For a worker that waits for the world: up to `at_once` records are being answered together.

    The worker says when its record has its answer, which makes room for the next, and when its offset may be passed;
    a record that it leaves without that waits to be started again. Up to `UNFINISHED` may be worked on.
    """

    worker: Callable[[Record, Work], Awaitable[None]]
    publisher: Publisher
    learn: Learning
    fail: Fail
    at_once: int
    answering: asyncio.Semaphore = field(init=False)
    unfinished: asyncio.Semaphore = field(init=False)
    tasks: dict[_Handle, asyncio.Task[None]] = field(default_factory=dict)

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
            if progress.start(record.offset):
                work = _Handle(progress, record.offset, self.answering)
                self.tasks[work] = asyncio.create_task(self._one(record, work))
            else:
                self.answering.release()
                self.unfinished.release()

    async def _one(self, record: Record, work: _Handle) -> None:
        try:
            await self.worker(record, work)
        except Exception as error:  # noqa: BLE001 - none may pass for a finished record
            self.fail(error)
        finally:
            work.end()
            self.unfinished.release()
            del self.tasks[work]
