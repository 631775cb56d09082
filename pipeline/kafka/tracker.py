"""Which offsets may be committed: everything below the lowest unfinished one, whatever the order in which work ends.

Pure: no Kafka here. Offsets of a partition are seen in rising order, with holes wherever the log has them
(compaction, transaction markers, trimmed segments); a hole neither stalls the floor nor lets it skip, because only
what was seen can be unfinished.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Partition = tuple[str, int]
"""Topic and partition number."""


@dataclass(slots=True)
class Progress:
    """One partition, from its assignment to its loss.

    When it comes back it gets a new one; the old one commits nothing.
    """

    unfinished: dict[int, None] = field(default_factory=dict)
    next: int | None = None
    committed: int | None = None
    started: int = 0
    open: bool = True

    def see(self, offset: int) -> bool:
        """An offset has been read and is now unfinished; False for one that was seen before."""
        if self.next is not None and offset < self.next:
            return False
        self.unfinished[offset] = None
        self.next = offset + 1
        return True

    def start(self) -> bool:
        """Whether work on a record may begin; if so it counts as in flight until it is finished."""
        self.started += self.open
        return self.open

    def finish(self, offset: int) -> None:
        """All that a started record caused is durable."""
        del self.unfinished[offset]
        self.started -= 1

    def close(self) -> None:
        """Start nothing more; what is in flight may still finish."""
        self.open = False

    @property
    def floor(self) -> int | None:
        """The offset to commit: the lowest unfinished one, else the last seen + 1; None if nothing has been seen."""
        return next(iter(self.unfinished), self.next)


@dataclass(slots=True)
class Tracker:
    """The partitions that this process holds."""

    partitions: dict[Partition, Progress] = field(default_factory=dict)

    def take(self, partition: Partition) -> None:
        """Start afresh on a partition that has been assigned."""
        self.partitions[partition] = Progress()

    def let_go(self, partition: Partition) -> None:
        """Forget a partition: what still ends of it commits nothing here."""
        if (progress := self.partitions.pop(partition, None)) is not None:
            progress.close()

    def close(self, partitions: list[Partition]) -> None:
        """Start nothing more of these."""
        for progress in self._of(partitions):
            progress.close()

    def in_flight(self, partitions: list[Partition]) -> int:
        """How many records of these are started and unfinished."""
        return sum(progress.started for progress in self._of(partitions))

    def due(self) -> dict[Partition, int]:
        """The floors that differ from what was committed last."""
        return {
            partition: floor
            for partition, progress in self.partitions.items()
            if (floor := progress.floor) is not None and floor != progress.committed
        }

    def committed(self, floors: dict[Partition, int]) -> None:
        """The broker has stored these."""
        for partition, floor in floors.items():
            if (progress := self.partitions.get(partition)) is not None:
                progress.committed = floor

    @property
    def unfinished(self) -> int:
        """How many records are unfinished, over all partitions."""
        return sum(len(progress.unfinished) for progress in self.partitions.values())

    def _of(self, partitions: list[Partition]) -> list[Progress]:
        return [progress for partition in partitions if (progress := self.partitions.get(partition)) is not None]
