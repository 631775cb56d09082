"""The commit-first control: what the tracker would be if it passed a record when it is read."""

from __future__ import annotations

from pipeline.faults import Control, Faults
from pipeline.kafka.tracker import Progress


class CommitFirst(Progress):
    """Commits before sending: a process that dies loses what it had in flight."""

    __slots__ = ()

    @property
    def floor(self) -> int | None:
        """The last seen + 1, finished or not."""
        return self.next


def progress_of(faults: Faults) -> type[Progress]:
    """How the partitions of this process are tracked."""
    return CommitFirst if faults.control is Control.COMMIT_FIRST else Progress
