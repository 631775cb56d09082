"""The delay role: holds every record of a tier for the tier's time, then forwards it.

Every record of a tier waits equally long, so each partition is in due order and only its head is watched. A head is
due at its append time plus the tier's wait on the broker's clock, and at the latest when it has been here for that
long. A record is started when it is forwarded: what only waits is in nobody's way when a partition is given up.

What replays have written waits for no time but for its throttle, which its partitions share in turns. It is never in
a tier's way: little of it is held, and little is on its way to the broker at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from pipeline.flow.throttle import Throttle
from pipeline.kafka.clock import BrokerClock
from pipeline.kafka.feed import Batch
from pipeline.kafka.publisher import Publisher, Report
from pipeline.kafka.tracker import Partition, Progress
from pipeline.ports import Outgoing, Record

_MEMORY = 128 * 1024 * 1024
_QUEUE = 4 * 1024 * 1024
"""A partition with more than its share of `_MEMORY`, and never more than this, is paused until half of it has gone."""
_THROTTLED_QUEUE, _THROTTLED_UNREPORTED = 1024 * 1024, 8 * 1024 * 1024
"""So much of a throttled partition is held, and it goes on while less than so much of all records is unreported."""
_RECORD = 1_000
"""Roughly the memory of a record in Python, without its value."""
_AT_ONCE = 200
"""After so many records of a partition it is the next one's turn, and the event loop's."""
_TOGETHER_S, _BREATH_S, _LONGEST_SLEEP_S = 0.02, 0.001, 0.5
"""What falls due within a moment goes together: records one by one cost the broker, and those who read them, far more
than their work. While much is overdue the pause is for the thread that reads."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    progress: Progress
    seen_s: float


@dataclass(slots=True)
class _Queue:
    """What is held of one partition, and how much memory that takes."""

    wait_ms: int
    throttle: Throttle | None = None
    waiting: deque[_Waiting] = field(default_factory=deque)
    memory: int = 0

    def put(self, waiting: _Waiting) -> None:
        self.waiting.append(waiting)
        self.memory += len(waiting.record.value or b"") + _RECORD

    def take(self) -> _Waiting:
        waiting = self.waiting.popleft()
        self.memory -= len(waiting.record.value or b"") + _RECORD
        return waiting


class Holding:
    """Takes batches from the feed (`hold`), forwards what is due (`run`).

    `wait_ms` says how long a topic's records wait; `throttled` has the topics that wait for a throttle instead.
    `paused` is what the feed should not read at present.
    """

    def __init__(
        self,
        forward: Callable[[Record, int], Outgoing],
        wait_ms: Callable[[str], int],
        publisher: Publisher,
        clock: BrokerClock,
        throttled: Mapping[str, Throttle] = MappingProxyType({}),
    ) -> None:
        self._forward, self._wait_ms, self._publisher, self._clock = forward, wait_ms, publisher, clock
        self._throttled = throttled
        self._fail: Callable[[BaseException], None]
        self._queues: dict[Partition, _Queue] = {}
        self._arrived = asyncio.Event()
        self.paused: frozenset[Partition] = frozenset()

    def processing(self, fail: Callable[[BaseException], None]) -> Callable[[Batch], Awaitable[None]]:
        """What the stage calls with each batch; `fail` gets to know a fault of ours."""
        self._fail = fail
        return self.hold

    @property
    def overdue(self) -> bool:
        """Whether a record is due that has not been forwarded yet."""
        return any(queue.waiting and self._left_ms(queue) <= 0 for queue in self._queues.values())

    async def hold(self, batch: Batch) -> None:
        """Queue the batch behind what its partitions hold already."""
        now = time.monotonic()
        for record, progress in batch:
            partition = record.topic, record.partition
            if (queue := self._queues.get(partition)) is None:
                throttle = self._throttled.get(record.topic)
                queue = self._queues[partition] = _Queue(self._wait_ms(record.topic), throttle)
            queue.put(_Waiting(record, progress, now))
        self._set_paused()
        self._arrived.set()

    async def run(self) -> NoReturn:
        """Forward heads as they fall due, until cancelled."""
        while True:
            self._arrived.clear()
            more = False
            for partition, queue in list(self._queues.items()):
                if released := await self._release(queue):
                    await asyncio.sleep(0)
                more |= released == _AT_ONCE
                if not queue.waiting:
                    del self._queues[partition]
                elif released and queue.throttle is not None:  # it is the next one's turn
                    self._queues[partition] = self._queues.pop(partition)
            self._set_paused()
            await asyncio.sleep(_BREATH_S if more else _TOGETHER_S)
            if not more:
                await self._next()

    async def _next(self) -> None:
        """Wait until a head is due, or records have come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._sleep_s()):
                await self._arrived.wait()

    async def _release(self, queue: _Queue) -> int:
        """Forward what is due, up to a number; how many records have left the queue."""
        for released in range(_AT_ONCE):
            if not queue.waiting or self._left_ms(queue) > 0:
                return released
            await self._publisher.room()
            waiting = queue.take()
            if waiting.progress.start(waiting.record.offset):
                if queue.throttle is not None:
                    queue.throttle.took()
                self._publish(waiting.record, waiting.progress, queue.wait_ms)
        return _AT_ONCE

    def _publish(self, record: Record, progress: Progress, wait_ms: int) -> None:
        def reported(report: asyncio.Future[Report]) -> None:
            if (error := report.exception()) is not None:
                self._fail(error)
            else:
                progress.finish(record.offset)

        self._publisher.publish(self._forward(record, wait_ms)).add_done_callback(reported)

    def _left_ms(self, queue: _Queue) -> float:
        """Milliseconds until a head is due; a partition that was given up has nothing to wait for."""
        head = queue.waiting[0]
        if not head.progress.open:
            return 0
        if queue.throttle is not None:
            return self._throttled_ms(queue.throttle)
        by_sight = (head.seen_s - time.monotonic()) * 1000 + queue.wait_ms
        if not self._clock.known:
            return by_sight
        return min(by_sight, head.record.timestamp_ms + queue.wait_ms - self._clock.now_ms())

    def _throttled_ms(self, throttle: Throttle) -> float:
        """The same where a throttle decides, and the broker's pace."""
        if self._publisher.unreported_bytes > _THROTTLED_UNREPORTED:
            return _TOGETHER_S * 1000
        return throttle.left_ms(time.monotonic())

    def _sleep_s(self) -> float:
        due_ms = min((self._left_ms(queue) for queue in self._queues.values()), default=1e9)
        return min(max(due_ms / 1000, 0.0), _LONGEST_SLEEP_S)

    def _set_paused(self) -> None:
        most = min(_QUEUE, _MEMORY // max(len(self._queues), 1))
        full = {partition for partition, queue in self._queues.items() if queue.memory > _share(queue, most)}
        still = {p for p in self.paused if (queue := self._queues.get(p)) and queue.memory > _share(queue, most) // 2}
        self.paused = frozenset(full | still)


def _share(queue: _Queue, most: int) -> int:
    return most if queue.throttle is None else min(most, _THROTTLED_QUEUE)
