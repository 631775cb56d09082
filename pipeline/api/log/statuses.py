"""What became of replays' deliveries, counted no more often than the counting bears."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.api.log.asking import AskedLog
from pipeline.flow.history import Status

SHARE = 20
"""Of a million deliveries it takes half a second: so many times as long passes before they are counted again."""
_KEPT = 100

Counts = Mapping[Status, int]


@dataclass(frozen=True, slots=True)
class _Counted:
    counts: Counts
    until_s: float


class Statuses:
    """Asks the delivery log. Whoever follows a replay second by second is told the counts of a moment ago."""

    def __init__(self, log: AskedLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._known: OrderedDict[str, _Counted] = OrderedDict()

    async def of(self, replay: str) -> Counts:
        """How many of the replay's deliveries stand how. Raises `Unreachable`."""
        known = self._known.get(replay)
        if known is None or known.until_s <= self._clock():
            known = self._known[replay] = await self._count(replay)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(replay)
        return known.counts

    async def _count(self, replay: str) -> _Counted:
        began_s = self._clock()
        counts = await self._log.ask(lambda log: log.replayed(replay))
        ended_s = self._clock()
        return _Counted(counts, ended_s + SHARE * (ended_s - began_s))
