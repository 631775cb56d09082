"""Deliveries that somebody has stopped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cancel:
    """A round of a delivery that is not to be tried any more. `time_ms` is milliseconds since the epoch.

    `by` is the id of the key that it was cancelled with.
    """

    delivery: str
    round: str
    tenant: str
    by: str
    time_ms: int
