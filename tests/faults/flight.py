"""What was in flight when a sender ended: requests that were received and whose attempt nobody had written down."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.faults.ledger import Arrival

_SLACK_MS = 50
"""A request's start and end are told by one process and its arrival by another."""
_LATE_MS = 500
"""How late the harness may learn of an end."""
_UNSENT_MS = 250
"""Attempts written so shortly before a stop may still have been in the sender's buffer."""


class Try(NamedTuple):
    """A record of `attempts`: when the request began, how long it took, when the record was made."""

    started_ms: int
    duration_ms: int
    written_ms: int


class End(NamedTuple):
    """A sender's end: killed, or stopped so long that its partitions went to others (`lasting` is False).

    `window_ms`: how long before it a request may have begun and still be open or unreported.
    """

    at_ms: int
    window_ms: int
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class Flight:
    """How many requests were in flight at an end, how many duplicates they do not explain, how many were just lost.

    `unexplained`: a delivery's duplicates beyond its own requests in flight. `unrecorded`: requests without an attempt
    that no end explains.
    """

    in_flight: int
    unexplained: int
    unrecorded: int


def flight(
    arrivals: Mapping[str, Sequence[Arrival]],
    tries: Mapping[str, Sequence[Try]],
    duplicates: Mapping[str, int],
    ends: Iterable[End],
) -> Flight:
    """Compare what receivers got with what senders wrote down, delivery by delivery."""
    in_order = sorted(ends)
    in_flight = unexplained = unrecorded = 0
    for webhook_id, same in arrivals.items():
        own = 0
        for arrival, written in _paired(same, tries.get(webhook_id, ())):
            if _open_at_an_end(arrival, written, in_order):
                own += 1
            elif written is None:
                unrecorded += 1
        in_flight += own
        unexplained += max(duplicates.get(webhook_id, 0) - own, 0)
    return Flight(in_flight, unexplained, unrecorded)


def _paired(same: Sequence[Arrival], tries: Sequence[Try]) -> list[tuple[Arrival, Try | None]]:
    """Each request with its attempt: the first unused one during which it arrived."""
    left = sorted(tries)
    pairs: list[tuple[Arrival, Try | None]] = []
    for arrival in sorted(same, key=lambda one: one.at_ms):
        found = next((one for one in left if _during(arrival, one)), None)
        if found is not None:
            left.remove(found)
        pairs.append((arrival, found))
    return pairs


def _during(arrival: Arrival, one: Try) -> bool:
    return one.started_ms - _SLACK_MS <= arrival.at_ms <= one.started_ms + one.duration_ms + _SLACK_MS


def _open_at_an_end(arrival: Arrival, written: Try | None, ends: Sequence[End]) -> bool:
    for end in ends[bisect_left(ends, arrival.at_ms - _LATE_MS, key=lambda one: one.at_ms) :]:
        begun = arrival.at_ms >= end.at_ms - end.window_ms
        if begun and (written is None or (not end.lasting and written.written_ms >= end.at_ms - _UNSENT_MS)):
            return True
    return False
