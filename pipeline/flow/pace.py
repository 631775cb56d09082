"""How fast a replay goes: at its own rate, and to each webhook no faster than that takes beside its live deliveries.

Pure. Seconds are by a clock that never jumps, milliseconds since the epoch by the broker's, as in `endpoint-state`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.flow.health import EndpointState
from pipeline.flow.replay import MOST_RATE

PART = 0.8
"""Of what an endpoint takes; the rest is for its live deliveries."""
AT_FIRST, LEAST = 20.0, 0.1
"""Deliveries a second: to a webhook of which nothing is known yet, and to one that takes hardly any."""
_GROWS, _GROWS_AGAIN = 1.6, 1.1
"""Each second in which the pace is used it grows so: until the endpoint has been too slow for it once, and after that.

What an endpoint shows is up to five seconds old: the first surplus is at most what it takes in a minute."""
_SPARE_S = 0.25
"""So much time that was not used is made up for."""
_RESERVED_MS = 1_000
"""A longer queue at the endpoint stops the replay: live deliveries would wait behind what it adds."""
_HOLDS_UP_S, _FORGIVEN = 5.0, 0.25


@dataclass(slots=True)
class Turns:
    """Turns at a rate, in the order in which they are asked for: who asks twice stands behind who asked between."""

    next_s: float = 0.0

    def take(self, now_s: float, rate: float) -> float:
        """When the next turn is, at so many a second; it is taken with that."""
        at_s = max(self.next_s, now_s - _SPARE_S)
        self.next_s = at_s + 1 / rate
        return at_s


@dataclass(slots=True)
class Pace:
    """One webhook's: deliveries a second of all replays to it together. It begins slowly and grows as it is used."""

    rate: float = AT_FIRST
    turns: Turns = field(default_factory=Turns)
    _until_ms: float = 0.0
    _seen_ms: int = -1
    _slow: bool = False
    _used: int = 0
    _grown_s: float | None = None

    def look(self, now_s: float, now_ms: float, most: float | None, state: EndpointState | None) -> None:
        """What the webhook's own rate and its endpoint's state say now; to be called a few times a second.

        Without a state (any more) nothing stops it: what was shown is of a generation that is over.
        """
        if state is None:
            self._until_ms = 0.0
        elif state.time_ms > self._seen_ms:
            self._seen_ms = state.time_ms
            self._told(state, now_ms)
        self._grow(now_s)
        if most is not None:
            self.rate = min(self.rate, max(most * PART, LEAST))

    def stopped(self, now_ms: float) -> bool:
        """Whether nothing may be added at present: the breaker is open, or more than a second is reserved."""
        return self._until_ms > now_ms

    def take(self, now_s: float) -> float:
        """When the next delivery's turn is (seconds); it is taken with that."""
        self._used += 1
        return self.turns.take(now_s, self.rate)

    def _told(self, state: EndpointState, now_ms: float) -> None:
        before = self.stopped(now_ms)
        self._until_ms = max(state.breaker_until_ms or 0, (state.reserved_until_ms or 0) - _RESERVED_MS)
        if self.stopped(now_ms) and not before:
            takes = self.rate if state.capacity is None else state.capacity * PART
            self.rate, self._slow = max(min(takes, self.rate / 2), LEAST), True

    def _grow(self, now_s: float) -> None:
        if self._grown_s is None:
            self._grown_s = now_s
        elapsed_s = now_s - self._grown_s
        if elapsed_s < max(1.0, 1 / self.rate):
            return
        if self._used >= self.rate * elapsed_s / 2:
            self.rate = min(self.rate * (_GROWS_AGAIN if self._slow else _GROWS), MOST_RATE)
        self._used, self._grown_s = 0, now_s


@dataclass(slots=True)
class Holding:
    """How much one share of a replay's webhooks holds up the others that are read for with it."""

    _seconds: float = 0.0
    _at_s: float | None = None

    def add(self, now_s: float, waited_s: float) -> None:
        """The others have waited for it for so long; a quarter of all time is forgiven."""
        passed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._seconds, self._at_s = max(self._seconds - passed_s * _FORGIVEN, 0.0) + waited_s, now_s

    @property
    def too_much(self) -> bool:
        """Whether it had better be read for by itself."""
        return self._seconds > _HOLDS_UP_S
