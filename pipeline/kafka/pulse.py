"""Whether this process has been running all along.

A process that was stopped for longer than its session is no member any more, and does not know it yet: what lies in
its memory belongs to another by then. So nothing starts when the event loop's last tick is older than half the
session.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from math import inf

if sys.platform == "linux":
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    """Seconds; the time of a suspended machine counts, which the monotonic clock leaves out."""
else:
    now = time.monotonic


@dataclass(slots=True)
class Pulse:
    """The event loop's tick: when the last one was, and until when it is good (seconds of `now`).

    `late` counts those that came too late, `sure` is how many of them Kafka has confirmed the membership after.
    """

    patience_s: float = inf
    at: float = 0.0
    until: float = inf
    late: int = 0
    sure: int = 0

    def beat(self) -> bool:
        """A tick; False when it came too late, so that what was true before may not be so any more."""
        self.at = now()
        in_time = self.at <= self.until
        self.late += not in_time
        self.until = self.at + self.patience_s
        return in_time

    @property
    def doubtful(self) -> bool:
        """Whether what was true before may not be so any more, and Kafka has not said yet that it is."""
        return self.late != self.sure or now() > self.until

    def confirmed(self) -> None:
        """The membership has lasted: what was true before still is."""
        self.sure = self.late
