"""Which offsets may be committed: everything below the lowest unfinished one, whatever the order in which work ends.

Pure: no Kafka here. Offsets of a partition are seen in rising order, with holes wherever the log has them
(compaction, transaction markers, trimmed segments); a hole neither stalls the floor nor lets it skip, because only
what was seen can be unfinished. Where the log ends in a hole, or has nothing but one, the position that reading has
reached carries the floor over it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.kafka.pulse import Pulse, now
from pipeline.ports import Record

Partition = tuple[str, int]
"""Topic and partition number."""


@dataclass(slots=True)
class Progress:
    """One partition, from its assignment to its loss.

    When it comes back it gets a new one; the old one is `lost` and commits nothing. `unfinished` says of each offset
    when work on it began, None while it waits. `backlog` has those that are not even handed over yet, because too many
    of the partition are under way; `freed` is called when it is time for more. `settling` counts those that have their
    answer and wait for the broker alone: they are in nobody's way.
    """

    unfinished: dict[int, float | None] = field(default_factory=dict)
    next: int | None = None
    position: int = 0
    """Where reading is: below `next` while records are read again."""
    committed: int | None = None
    begun: int = 0
    ended: int = 0
    settling: int = 0
    closed: bool = False
    lost: bool = False
    pulse: Pulse = field(default_factory=Pulse)
    backlog: deque[Record] = field(default_factory=deque)
    enough: int = 0
    """So many handed over are enough to leave the backlog alone."""
    freed: Callable[[Progress], None] | None = None

    def see(self, offset: int) -> bool:
        """An offset has been read; False for one that was seen before, unless it still waits to be started."""
        if self.next is None or offset >= self.next:
            self.unfinished[offset] = None
            self.next = self.position = offset + 1
            return True
        self.position = offset + 1
        return self.unfinished.get(offset, 0.0) is None

    def reach(self, position: int) -> None:
        """Everything below `position` has been read: what was not seen of it is a hole."""
        self.position = position
        if self.next is None or position > self.next:
            self.next = position

    def start(self, offset: int) -> bool:
        """Whether work on a record may begin, once; if so it counts as in flight until it is finished."""
        if self.unfinished.get(offset, 0.0) is not None or not self.open:
            return False
        self.unfinished[offset] = self.pulse.at
        self.begun += 1
        return True

    def goes_on(self, offset: int) -> None:
        """Work on a started record takes long, and is not stuck."""
        self.unfinished[offset] = self.pulse.at

    def finish(self, offset: int) -> None:
        """All that a started record caused is durable."""
        self.answered()
        self.release(offset)
        self.ended += 1

    def answered(self) -> None:
        """A started record has its answer."""
        self.settling += 1
        if self.backlog and self.handed <= self.enough and self.freed is not None:
            self.freed(self)

    def release(self, offset: int) -> None:
        """A record that has its answer may be passed, while work on it goes on."""
        self.settling -= 1
        del self.unfinished[offset]

    def end(self, offset: int) -> None:
        """Work on a record that has its answer has ended; if it was not released it waits to be started again."""
        self.ended += 1
        if offset in self.unfinished:
            self.settling -= 1
            self.unfinished[offset] = None

    def close(self) -> None:
        """Start nothing more; what is in flight may still finish."""
        self.closed = True
        self.backlog.clear()

    @property
    def open(self) -> bool:
        """Whether anything may be started: no more when it is closed, and not when the last tick is too old."""
        return not self.closed and now() <= self.pulse.until

    @property
    def started(self) -> int:
        """How many records are in flight."""
        return self.begun - self.ended

    @property
    def handed(self) -> int:
        """How many records the stage has that have no answer yet."""
        return len(self.unfinished) - len(self.backlog) - self.settling

    @property
    def floor(self) -> int | None:
        """The offset to commit: the lowest unfinished one, else where reading is; None if nothing has been read."""
        return next(iter(self.unfinished), self.next)

    @property
    def span(self) -> int:
        """How far reading is ahead of the floor."""
        return self.position - (self.floor or 0)

    @property
    def waits_from(self) -> int | None:
        """The lowest offset that has not been started."""
        return next((offset for offset, since in self.unfinished.items() if since is None), None)


class InFlight(NamedTuple):
    """A started record, and when that was (seconds of the pulse)."""

    since: float
    partition: Partition
    offset: int


@dataclass(slots=True)
class Tracker:
    """The partitions that this process holds."""

    partitions: dict[Partition, Progress] = field(default_factory=dict)
    fresh: Callable[[], Progress] = Progress
    pulse: Pulse = field(default_factory=Pulse)

    def take(self, partition: Partition) -> Progress:
        """Start afresh on a partition that has been assigned."""
        self.partitions[partition] = progress = self.fresh()
        progress.pulse = self.pulse
        return progress

    def let_go(self, partition: Partition) -> None:
        """Forget a partition: what still ends of it commits nothing here."""
        if (progress := self.partitions.pop(partition, None)) is not None:
            progress.lost = True
            progress.close()

    def lose(self) -> None:
        """The process is about to end for a fault: nothing more is started, and no effect of what ends is written."""
        for progress in self.partitions.values():
            progress.lost = True
            progress.close()

    def close(self, partitions: list[Partition]) -> None:
        """Start nothing more of these."""
        for progress in self._of(partitions):
            progress.close()

    def reopen(self) -> dict[Partition, int]:
        """Start again what was closed; where the partitions must be read again from, as what waited was dropped."""
        closed = {partition: progress for partition, progress in self.partitions.items() if progress.closed}
        again = {name: offset for name, progress in closed.items() if (offset := progress.waits_from) is not None}
        for name, progress in closed.items():
            progress.closed, progress.position = False, again.get(name, progress.position)
        self.pulse.confirmed()
        return again

    def in_flight(self, partitions: list[Partition]) -> int:
        """How many records of these are started and unfinished."""
        return sum(progress.started for progress in self._of(partitions))

    def floors(self) -> dict[Partition, int]:
        """The floor of every partition of which something has been read."""
        return {name: floor for name, progress in self.partitions.items() if (floor := progress.floor) is not None}

    def due(self) -> dict[Partition, int]:
        """The floors that differ from what was committed last."""
        return {name: floor for name, floor in self.floors().items() if floor != self.partitions[name].committed}

    def committed(self, floors: dict[Partition, int]) -> None:
        """The broker has stored these."""
        for partition, floor in floors.items():
            if (progress := self.partitions.get(partition)) is not None:
                progress.committed = floor

    @property
    def unfinished(self) -> int:
        """How many records are unfinished, over all partitions."""
        return sum(len(progress.unfinished) for progress in self.partitions.values())

    @property
    def moves(self) -> int:
        """A number that differs when something has been started or finished, or partitions came or went."""
        return sum(progress.begun + progress.ended for progress in self.partitions.values())

    def oldest(self) -> InFlight | None:
        """The record that has been in flight for longest."""
        every = (
            InFlight(since, partition, offset)
            for partition, progress in self.partitions.items()
            for offset, since in progress.unfinished.items()
            if since is not None
        )
        return min(every, default=None)

    def waiting(self) -> tuple[Partition, int] | None:
        """A record that has not been started; None if there is none."""
        every = ((name, progress.waits_from) for name, progress in self.partitions.items())
        return next(((name, offset) for name, offset in every if offset is not None), None)

    def _of(self, partitions: list[Partition]) -> list[Progress]:
        return [progress for partition in partitions if (progress := self.partitions.get(partition)) is not None]
