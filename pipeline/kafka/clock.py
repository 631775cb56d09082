"""The broker's time, learned from append times: a wall clock of ours that is wrong or jumps makes nothing early."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from pipeline.kafka.publisher import Publisher
from pipeline.kafka.topics import CLOCK
from pipeline.ports import Outgoing
from pipeline.workers.carriage import Headers

_KEEP_S = 120.0
_TICK_S = 1.0
_DRIFT = 0.001
"""Ours may run faster than the broker's: each of the two is slewed by at most 500 µs a second (adjtimex(2))."""


class BrokerClock:
    """A lower bound of the broker's time, a few milliseconds behind it.

    A record with append time `t` that is in our hands shows that the broker's clock was at `t` or later at that
    moment. Each such sighting bounds the offset between the broker's clock and our monotonic one from below; the best
    of the last two minutes is used, so that a broker whose clock is set back is followed within that time. Between
    sightings ours is taken to run a thousandth slower than it does.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._best: deque[tuple[float, float]] = deque()

    def saw(self, append_ms: int) -> None:
        """A record with this append time (milliseconds since the epoch, the broker's clock) is here now."""
        now = self._monotonic()
        ahead = append_ms - _slow_ms(now)
        while self._best and self._best[-1][1] <= ahead:
            self._best.pop()
        self._best.append((now, ahead))
        while self._best[0][0] < now - _KEEP_S:
            self._best.popleft()

    @property
    def known(self) -> bool:
        """Whether anything has been seen yet."""
        return bool(self._best)

    def now_ms(self) -> float:
        """The broker's time, at least. Call it only when `known`."""
        return _slow_ms(self._monotonic()) + self._best[0][1]


def _slow_ms(now_s: float) -> float:
    return now_s * 1000 * (1 - _DRIFT)


async def tick(clock: BrokerClock, publisher: Publisher, says: Callable[[], Headers] = tuple) -> NoReturn:
    """Teach a clock the broker's time, once a second, from the append time of a record of `clock`; until cancelled.

    Only this topic teaches it: a tier that was made without append times would tell the time of whoever wrote to it.
    `says` is asked for the headers of each record.
    """
    while True:
        if append_ms := (await publisher.publish(Outgoing(CLOCK, None, b"", says()))).append_ms:
            clock.saw(append_ms)
        await asyncio.sleep(_TICK_S)
