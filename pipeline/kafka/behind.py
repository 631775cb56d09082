"""Where a recorder goes on: at its group's offset, or earlier where the log itself says that it is behind.

A log may lose what was committed to it: a machine that dies takes SQLite's last transactions along, and a database may
be put back from a copy. It holds how far it has been read with what it has been told, so both go back together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from pipeline.errors import Unreachable
from pipeline.flow.history import Position
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
        """Where the log is behind the group's offset; what it does not know goes on there, as while nobody answers.

        From then on it knows: a copy that is made before a partition's first record, and put back after it, lacks it.
        """
        try:
            held, offsets = self.log.positions(), committed(self.settings, self.group, partitions)
        except Unreachable as error:
            _log.warning("how far the log is cannot be told", reason=str(error))
            return {}
        self._tell({name: offset for name, offset in offsets.items() if name not in held})
        behind = {name: held[name] for name, offset in offsets.items() if held.get(name, offset) < offset}
        if behind:
            _log.info("the log is behind its group", read_again=list(behind.items()))
        return behind

    def _tell(self, new: Mapping[Partition, int]) -> None:
        if not new:
            return
        try:
            self.log.write((), [Position(*name, offset) for name, offset in new.items()])
        except Unreachable as error:
            _log.warning("the log was not told where its reading begins", reason=str(error))
