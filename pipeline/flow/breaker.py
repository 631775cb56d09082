"""A circuit breaker: an endpoint that fails much is left alone for a while, then tried again."""

from __future__ import annotations

from dataclasses import dataclass

LEAST = 20
"""Requests within a minute that it takes to judge."""
_HALF_MS = 30_000
"""Requests are counted by half minutes: those of the last one and of this one are judged."""
_FIRST_TIERS, _MOST_TIERS = 6, 120


@dataclass(slots=True)
class Breaker:
    """Opens when at least half of at least 20 requests of the last minute failed; after a while one may try.

    It stays open for six times the smallest tier (`tier_ms`), then after each try that fails twice as long, up to
    120 times. Times are milliseconds, as an argument.
    """

    tier_ms: int
    until_ms: float = 0.0
    """When a try may be made; 0 while it is closed."""
    _tries: int = 0
    _half: int = 0
    _ended: int = 0
    _failed: int = 0
    _ended_before: int = 0
    _failed_before: int = 0

    def is_open(self, now: float) -> bool:
        """Whether nothing may be sent."""
        return now < self.until_ms

    @property
    def trying(self) -> bool:
        """Whether what is sent is a try: it was opened, and nothing has succeeded since."""
        return self.until_ms > 0

    def note(self, now: float, begun: float, *, failed: bool) -> None:
        """A request that began at `begun` has ended."""
        if self.until_ms:
            if begun >= self.until_ms:
                self._open(now) if failed else self._close()
            return
        if (half := int(now) // _HALF_MS) != self._half:
            self._turn(half)
        self._ended += 1
        if failed:
            self._failed += 1
            ended = self._ended + self._ended_before
            if ended >= LEAST and (self._failed + self._failed_before) * 2 >= ended:
                self._open(now)

    def _turn(self, half: int) -> None:
        follows = half == self._half + 1
        self._ended_before, self._failed_before = (self._ended, self._failed) if follows else (0, 0)
        self._half, self._ended, self._failed = half, 0, 0

    def _open(self, now: float) -> None:
        self.until_ms = now + min(_FIRST_TIERS << min(self._tries, 10), _MOST_TIERS) * self.tier_ms
        self._tries += 1
        self._ended = self._failed = self._ended_before = self._failed_before = 0

    def _close(self) -> None:
        self.until_ms, self._tries = 0.0, 0
