"""How a stage works through a batch: in turn for a worker that only decides, many at once for one that waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import structlog

from pipeline.errors import Unreachable
from pipeline.flow.history import Entry, Position
from pipeline.kafka.codec import Codec
from pipeline.kafka.feed import Batch
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.tracker import Partition, Progress
from pipeline.ports import Log, Outgoing, Record, Work
from pipeline.workers.living import Tenants, kept, removed_in, tenant_of
from pipeline.workers.recorder import Projection

UNFINISHED = 10_000
"""Records that a stage of this kind works on at the same time, at most; most of them only wait."""
_LATER, _A_FEW = 500, 2
"""Records that others go before, at most; and how many of them begin in a turn of the event loop."""
_RETRY_S = 0.5
_LATE_S = 5.0
_LATE = f"the delivery log's database has not taken a batch for {_LATE_S:g} s"
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

    @property
    def doubtful(self) -> bool:
        return self._progress.pulse.doubtful

    def answered(self) -> None:
        if self._answering is not None:
            self._answering.release()
            self._answering = None
            self._progress.answered()

    def goes_on(self) -> None:
        if not self._released:
            self._progress.goes_on(self._offset)

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

    What is not `urgent` begins when all that is has begun, a few at a time, also after what is read meanwhile.
    """

    worker: Callable[[Record, Work], Awaitable[None]]
    publisher: Publisher
    learn: Learning
    fail: Fail
    at_once: int
    urgent: Callable[[Record], bool] = lambda _: True
    answering: asyncio.Semaphore = field(init=False)
    unfinished: asyncio.Semaphore = field(init=False)
    tasks: dict[_Handle, asyncio.Task[None]] = field(default_factory=dict)
    later: deque[tuple[Record, Progress]] = field(default_factory=deque)
    beginning: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.answering = asyncio.Semaphore(self.at_once)
        self.unfinished = asyncio.Semaphore(UNFINISHED)

    async def __call__(self, batch: Batch) -> None:
        """Return when all of the batch that is urgent is under way, and not much of the rest is left."""
        await self.learn(batch)
        for record, progress in batch:
            if self.urgent(record):
                await self._begin(record, progress)
            else:
                self.later.append((record, progress))
        while len(self.later) > _LATER:
            await self._begin(*self.later.popleft())
        if self.later and self.beginning is None:
            self.beginning = asyncio.create_task(self._begin_the_rest())

    async def _begin_the_rest(self) -> None:
        try:
            while self.later:
                await asyncio.sleep(0)
                for _ in range(_A_FEW):
                    if self.later:
                        await self._begin(*self.later.popleft())
        except Exception as error:  # noqa: BLE001 - as below
            self.fail(error)
        finally:
            self.beginning = None

    async def _begin(self, record: Record, progress: Progress) -> None:
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


@dataclass(frozen=True, slots=True)
class _Started:
    """A record that is being recorded, and what the log is to hold of it."""

    record: Record
    progress: Progress
    entry: Entry | None

    def goes_on(self) -> bool:
        """Whether the record is still this process's; if not, it is now as if it had not been started."""
        if self.progress.closed:
            self.progress.answered()
            self.progress.end(self.record.offset)
        return not self.progress.closed


@dataclass(slots=True)
class Recording:
    """For a worker that says what the log holds of a record: a batch is one transaction, and finished when that is.

    While the database does not answer the stage waits, and `waiting` says so; what it has of a partition that is given
    up meanwhile is left to the next owner. A batch that is written twice is as if it had been written once.

    With `tenants`, what is no living tenant's is left out; what is read of one that is not known yet is judged by a
    view as new as the broker.
    """

    projection: Projection
    log: Log
    learn: Learning
    tenants: Tenants | None = None
    waiting: str | None = None
    recorded: int = 0
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, batch: Batch) -> None:
        """Return when the batch has been written, or nothing of it is to be written here any more."""
        for value in (self.projection.value, self.projection.inside):
            await self.learn.schemas_of([value(record) for record, _ in batch])
        async with self.writing:
            await self._record(batch)

    async def settled(self) -> None:
        """What has been judged before now is written."""
        async with self.writing:
            return

    async def _record(self, batch: Batch) -> None:
        started = [
            _Started(record, progress, self.projection(record))
            for record, progress in batch
            if progress.start(record.offset)
        ]
        if self.tenants is not None:
            started = await self._of_the_living(started, self.tenants)
        while started and not await self._written(started):
            await asyncio.sleep(_RETRY_S)
            started = [one for one in started if one.goes_on()]
        self.waiting = None
        for one in started:
            one.progress.finish(one.record.offset)

    async def _of_the_living(self, started: list[_Started], tenants: Tenants) -> list[_Started]:
        for one in started:
            if (tenant := removed_in(one.entry)) is not None:
                tenants.was_removed(tenant)
        if any(_is_unknown(one.entry, tenants) for one in started):
            await tenants.newest()
            started = [one for one in started if one.goes_on()]
        return [
            one if one.entry is None else replace(one, entry=kept(one.entry, one.record.timestamp_ms, tenants))
            for one in started
        ]

    async def _written(self, started: Sequence[_Started]) -> bool:
        entries = [one.entry for one in started if one.entry is not None]
        late = asyncio.get_running_loop().call_later(_LATE_S, self._waits, _LATE)
        try:
            await asyncio.to_thread(self.log.write, entries, _positions(started))
        except Unreachable as error:
            self._waits(str(error))
            return False
        finally:
            late.cancel()
        self.recorded += len(entries)
        return True

    def _waits(self, reason: str) -> None:
        if self.waiting is None:
            _log.warning("waiting", reason=reason)
        self.waiting = reason


def _is_unknown(entry: Entry | None, tenants: Tenants) -> bool:
    tenant = None if entry is None else tenant_of(entry)
    return tenant is not None and tenants.since_ms(tenant) is None


def _positions(started: Iterable[_Started]) -> list[Position]:
    """Where each partition has been read up to: its records come in order, and those before have been written."""
    reached: dict[Partition, int] = {(one.record.topic, one.record.partition): one.record.offset for one in started}
    return [Position(topic, partition, offset + 1) for (topic, partition), offset in reached.items()]
