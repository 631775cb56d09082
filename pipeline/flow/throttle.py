"""How fast what is replayed is let in among live deliveries: evenly, and less while those wait."""

from __future__ import annotations

from dataclasses import dataclass

MOST, LEAST = 2_000.0, 10.0
"""Deliveries a second that one forwarder lets in, at most and at least: with none at all a replay might never end."""
LATE_MS = 1_000.0
"""Deliveries that have waited longer show that the senders have more than they can do."""
_SILENT_S = 5.0
"""Senders that nobody has heard of for longer do not send: what is let in would lie before what is live."""
_JUDGED_S = 1.0
_STEP = MOST / 20
"""The rate is halved, or grows by so much, once a second."""
_BURST_S = 0.05
"""So much of a second may go at once."""


@dataclass(slots=True)
class Throttle:
    """The rate of one forwarder, from what senders say of how long deliveries have waited for them.

    Halved for each second in which somebody said that they waited long, or nobody said anything for a while; else it
    grows step by step. What one sender says counts for that second and the next: each speaks once a second. Times are
    seconds on a monotonic clock; `since` is when it begins.
    """

    since: float
    rate: float = MOST
    _allowed: float = 1.0
    _counted: float = 0.0
    _judged: float = 0.0
    _heard: float = 0.0
    _worst_ms: float = 0.0
    _worst_before_ms: float = 0.0

    def __post_init__(self) -> None:
        self._counted = self._judged = self._heard = self.since

    def heard(self, behind_ms: float, now: float) -> None:
        """A sender has said how long what it took up last had waited."""
        self._heard = now
        self._worst_ms = max(self._worst_ms, behind_ms)
        self._judge(now)

    def left_ms(self, now: float) -> float:
        """Milliseconds until the next delivery may go; 0 if it may go now."""
        self._judge(now)
        most = max(1.0, self.rate * _BURST_S)
        self._allowed = min(self._allowed + (now - self._counted) * self.rate, most)
        self._counted = now
        return max(1.0 - self._allowed, 0.0) / self.rate * 1000

    def took(self) -> None:
        """A delivery has gone."""
        self._allowed -= 1.0

    def _judge(self, now: float) -> None:
        if now - self._judged < _JUDGED_S:
            return
        late = max(self._worst_ms, self._worst_before_ms) > LATE_MS or now - self._heard > _SILENT_S
        self.rate = max(self.rate / 2, LEAST) if late else min(self.rate + _STEP, MOST)
        self._worst_before_ms, self._worst_ms, self._judged = self._worst_ms, 0.0, now
