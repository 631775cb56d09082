"""The event loop's half of a feed: what has been read goes to the stage, and no partition stands in another's way.

Two bounds for each partition. Its *share* is how many of its records the stage has that are not answered: a stage that
waits for the world works on so many together, and a partition whose records do not end must leave room for others.
Its *window* is how far reading may be ahead of its floor. Where one is full, that partition alone is paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Semaphore
from typing import Any

from pipeline.kafka.tracker import Partition, Progress, Tracker
from pipeline.ports import Record

WINDOW = 45_000
"""Offsets between a partition's floor and where reading is, at most, and the batches under way beyond it.

All that may have been answered above a commit lies within it. Whoever takes a partition over looks back over 100,000
offsets of answers, and so sees all of it, also where several batches were under way and one commit was missed.
"""
_BACKLOG = 1_000
"""Records of a partition that wait for its share; with more it is paused, until half of them have gone."""
_AHEAD = 2
"""Batches between the poller's thread and the stage's channel."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records for the stage; `ends` is what the feed's `ask` answered after they had been read."""

    records: list[tuple[Record, Progress]]
    ends: dict[Partition, int]

    def __iter__(self) -> Iterator[tuple[Record, Progress]]:
        return iter(self.records)


class Intake:
    """Takes what the poller's thread has read. `room` is its to acquire before it hands a batch over.

    `full` is what it should not read at present. With a `share` of 0 the stage gets all that is read.
    """

    def __init__(self, tracker: Tracker, put: Callable[[Batch], Awaitable[Any]], share: int) -> None:
        self.full: frozenset[Partition] = frozenset()
        self.room = Semaphore(_AHEAD)
        self._tracker, self._put, self._share = tracker, put, share
        self._ready: asyncio.Queue[tuple[Batch, bool]] = asyncio.Queue()
        self._ends: dict[Partition, int] = {}

    def take(self, partition: Partition) -> None:
        """A partition has been assigned."""
        progress = self._tracker.take(partition)
        progress.enough, progress.freed = self._share // 2, self._free

    def accept(self, records: Sequence[Record], ends: dict[Partition, int]) -> None:
        """A batch has been read."""
        held, share = self._tracker.partitions, self._share
        seen = []
        for record in records:
            progress = held.get((record.topic, record.partition))
            if progress is None or not progress.see(record.offset) or progress.closed:
                continue
            if share and (progress.backlog or progress.handed > share):
                progress.backlog.append(record)
            else:
                seen.append((record, progress))
        self._ends = ends
        self._ready.put_nowait((Batch(seen, ends), True))
        self.weigh()

    def reach(self, positions: Mapping[Partition, int]) -> None:
        """Reading has come to the ends of these partitions."""
        for partition, position in positions.items():
            if (progress := self._tracker.partitions.get(partition)) is not None:
                progress.reach(position)

    async def run(self) -> None:
        """Hand batches to the stage, which takes them when it can, until cancelled."""
        while True:
            batch, counted = await self._ready.get()
            if batch.records:
                await self._put(batch)
            if counted:
                self.room.release()

    def weigh(self) -> None:
        """Find out which partitions are full, and which may have more of their backlog."""
        partitions = self._tracker.partitions.items()
        for _, progress in partitions:
            if progress.backlog and progress.handed <= progress.enough:
                self._hand_over(progress)
        full = {name for name, progress in partitions if self._is_full(name, progress)}
        if full != self.full:
            self.full = frozenset(full)

    def _is_full(self, partition: Partition, progress: Progress) -> bool:
        if partition in self.full:
            return progress.span > WINDOW // 2 or len(progress.backlog) > _BACKLOG // 2
        return progress.span > WINDOW or len(progress.backlog) > _BACKLOG

    def _free(self, progress: Progress) -> None:
        self._hand_over(progress)
        self.weigh()

    def _hand_over(self, progress: Progress) -> None:
        count = min(self._share - progress.handed, len(progress.backlog))
        records = [(progress.backlog.popleft(), progress) for _ in range(count)]
        self._ready.put_nowait((Batch(records, self._ends), False))
