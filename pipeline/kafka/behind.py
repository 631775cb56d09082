"""Where a recorder goes on: at its group's offset, or earlier where the log itself says that it is behind.

A log may lose what was committed to it: a machine that dies takes SQLite's last transactions along, and a database may
be put back from a copy. It holds how far it has been read with what it has been told, so both go back together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from pipeline.errors import Unreachable
from pipeline.kafka.age import committed
from pipeline.kafka.tracker import Partition
from pipeline.ports import Log
from pipeline.settings import Settings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Behind:
    """Asked for partitions that have been assigned, in the thread that polls."""

    settings: Settings
    group: str
    log: Log

    def __call__(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Where the log is behind the group's offset; what it does not know goes on there, as while nobody answers."""
        try:
            held, offsets = self.log.positions(), committed(self.settings, self.group, partitions)
        except Unreachable as error:
            _log.warning("how far the log is cannot be told", reason=str(error))
            return {}
        behind = {name: held[name] for name, offset in offsets.items() if held.get(name, offset) < offset}
        if behind:
            _log.info("the log is behind its group", read_again=list(behind.items()))
        return behind
