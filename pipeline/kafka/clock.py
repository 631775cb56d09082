"""The broker's time, learned from append times: a wall clock of ours that is wrong or jumps makes nothing early."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_KEEP_S = 120.0


class BrokerClock:
    """A lower bound of the broker's time, a few milliseconds behind it.

    A record with append time `t` that is in our hands shows that the broker's clock was at `t` or later at that
    moment. Each such sighting bounds the offset between the broker's clock and our monotonic one from below; the best
    of the last two minutes is used, so that a broker whose clock is set back is followed within that time.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._best: deque[tuple[float, float]] = deque()

    def saw(self, append_ms: int) -> None:
        """A record with this append time (milliseconds since the epoch, the broker's clock) is here now."""
        now = self._monotonic()
        ahead = append_ms - now * 1000
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
        return self._monotonic() * 1000 + self._best[0][1]
