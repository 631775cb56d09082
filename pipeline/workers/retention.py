"""What the delivery log forgets: days that are older than it is to hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from pipeline.errors import SettingsError, Unreachable
from pipeline.ports import Clock

_DAYS = re.compile(r"([1-9]\d{0,3})d")
_LOOK_S = 60.0
_log = structlog.get_logger()


class Droppable(Protocol):
    """A log whose days can be dropped."""

    def drop_before(self, day: dt.date) -> int:
        """Remove what was made before that day (UTC) began; how many rows. It blocks. Raises `Unreachable`."""


def days_of(log_retention: str) -> int:
    """Of the setting of this name, written like `30d`. Raises `SettingsError`."""
    if (found := _DAYS.fullmatch(log_retention)) is None:
        raise SettingsError(f"PIPELINE_LOG_RETENTION={log_retention!r}: write days, like 30d")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Retention:
    """Drops what is older than so many days, at the start and once a day. Any number of processes may do so."""

    log: Droppable
    days: int
    clock: Clock

    async def run(self) -> NoReturn:
        """Look once a minute whether a day (UTC) has begun; while the database does not answer nothing is dropped."""
        dropped: dt.date | None = None
        while True:
            if (day := self._first()) != dropped and await self._drop(day):
                dropped = day
            await asyncio.sleep(_LOOK_S)

    def _first(self) -> dt.date:
        """The first day that is held."""
        return dt.datetime.fromtimestamp(self.clock() / 1000, dt.UTC).date() - dt.timedelta(self.days)

    async def _drop(self, day: dt.date) -> bool:
        try:
            count = await asyncio.to_thread(self.log.drop_before, day)
        except Unreachable as error:
            _log.warning("old rows not dropped", reason=str(error))
            return False
        if count:
            _log.info("dropped", before=day.isoformat(), rows=count)
        return True
