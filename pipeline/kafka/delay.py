"""The delay role: holds every record of a tier for the tier's time, then forwards it.

Every record of a tier waits equally long, so each partition is in due order and only its head is watched. A head is
due at its append time plus the tier's wait on the broker's clock, and at the latest when it has been here for that
long.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from pipeline.kafka.clock import BrokerClock
from pipeline.kafka.feed import Batch
from pipeline.kafka.publisher import Publisher, Report
from pipeline.kafka.topics import CLOCK
from pipeline.kafka.tracker import Partition, Progress
from pipeline.ports import Outgoing, Record

_HELD = 4_000
_RESUMED = 1_000
"""A partition with more records in memory is paused, and read on when fewer are left."""
_LONGEST_SLEEP_S = 0.5
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    progress: Progress
    seen_s: float


class Holding:
    """Takes batches from the feed (`hold`), forwards what is due (`run`).

    `paused` is what the feed should not read at present.
    """

    def __init__(
        self,
        forward: Callable[[Record, int], Outgoing],
        waits_ms: dict[str, int],
        publisher: Publisher,
    ) -> None:
        self._forward, self._waits, self._publisher = forward, waits_ms, publisher
        self._fail: Callable[[BaseException], None]
        self._queues: dict[Partition, deque[_Waiting]] = {}
        self._clock = BrokerClock()
        self._arrived = asyncio.Event()
        self.paused: frozenset[Partition] = frozenset()

    def processing(self, fail: Callable[[BaseException], None]) -> Callable[[Batch], Awaitable[None]]:
        """What the stage calls with each batch; `fail` gets to know a fault of ours."""
        self._fail = fail
        return self.hold

    async def hold(self, batch: Batch) -> None:
        """Queue the batch behind what its partitions hold already."""
        now = time.monotonic()
        for record, progress in batch:
            self._clock.saw(record.timestamp_ms)
            self._queues.setdefault((record.topic, record.partition), deque()).append(_Waiting(record, progress, now))
        self._set_paused()
        self._arrived.set()

    async def run(self) -> None:
        """Forward heads as they fall due, until cancelled."""
        while True:
            self._arrived.clear()
            for partition, queue in list(self._queues.items()):
                await self._release(partition, queue)
            self._set_paused()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sleep_s()):
                    await self._arrived.wait()

    async def tick(self) -> None:
        """Learn the broker's time once a second from the append time of a record of `clock`, until cancelled."""
        while True:
            report = await self._publisher.publish(Outgoing(CLOCK, None, b""))
            self._clock.saw(report.timestamp_ms)
            await asyncio.sleep(_TICK_S)

    async def _release(self, partition: Partition, queue: deque[_Waiting]) -> None:
        wait_ms = self._waits[partition[0]]
        while queue and self._left_ms(queue[0], wait_ms) <= 0:
            waiting = queue.popleft()
            if waiting.progress.start():
                await self._publisher.room()
                self._publish(waiting.record, waiting.progress, wait_ms)
        if not queue:
            del self._queues[partition]

    def _publish(self, record: Record, progress: Progress, wait_ms: int) -> None:
        def reported(report: asyncio.Future[Report]) -> None:
            if (error := report.exception()) is not None:
                self._fail(error)
            else:
                progress.finish(record.offset)

        self._publisher.publish(self._forward(record, wait_ms)).add_done_callback(reported)

    def _left_ms(self, head: _Waiting, wait_ms: int) -> float:
        """Milliseconds until a head is due; a partition that was given up has nothing to wait for."""
        if not head.progress.open:
            return 0
        by_sight = (head.seen_s - time.monotonic()) * 1000 + wait_ms
        if not self._clock.known:
            return by_sight
        return min(by_sight, head.record.timestamp_ms + wait_ms - self._clock.now_ms())

    def _sleep_s(self) -> float:
        due = (self._left_ms(queue[0], self._waits[topic]) for (topic, _), queue in self._queues.items())
        return min(max(min(due, default=1000) / 1000, 0.001), _LONGEST_SLEEP_S)

    def _set_paused(self) -> None:
        lengths = {partition: len(queue) for partition, queue in self._queues.items()}
        full = {partition for partition, length in lengths.items() if length > _HELD}
        still = {partition for partition in self.paused if lengths.get(partition, 0) > _RESUMED}
        self.paused = frozenset(full | still)
