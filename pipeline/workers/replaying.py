"""How far a replay has come: what has been read for which of its webhooks, and what came of it.

Pure. The webhooks of a replay are in shares (by a hash of their paths). One reader reads for all of them; a share that
holds the others up gets a reader of its own, which goes on where the one of all was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.flow.replay import OVER, Ordered, Progress, Reached, Replay, Span, State

MOST_SHARES = 32

Positions = dict[int, int]
"""The next offset of each partition of a window."""


def settled(order: Replay, progress: Progress | None) -> State | None:
    """How a replay stands of which nothing is to be run; None if it is to go on."""
    if progress is not None and progress.state in OVER:
        return progress.state
    match order.ordered:
        case Ordered.CANCELLED:
            return State.CANCELLED
        case Ordered.PAUSED:
            return State.PAUSED
        case Ordered.RUNNING:
            return None


def share_of(path: str, shares: int) -> int:
    """The share of a webhook (`tenant/webhook`): the same in every process."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4]) % shares


@dataclass(slots=True)
class Looked:
    """What one reader has done since its progress was last noted.

    `events` and `unreadable` are offsets by partition: another share's reader may have counted some of them.
    """

    events: dict[int, list[int]] = field(default_factory=dict)
    unreadable: dict[int, list[int]] = field(default_factory=dict)
    deliveries: int = 0
    bytes: int = 0

    def at(self, partition: int, offset: int, *, unreadable: bool) -> None:
        """A record has been looked at, and nothing could be made of it, or of a part of it, if `unreadable`."""
        self.events.setdefault(partition, []).append(offset)
        if unreadable:
            self.unreadable.setdefault(partition, []).append(offset)

    def wrote(self, size: int) -> None:
        """A delivery has been written, of a record of so many bytes."""
        self.deliveries += 1
        self.bytes += size


@dataclass(slots=True)
class Course:
    """A replay's course, as durable as what its readers note in it. What is noted twice counts once."""

    order: Replay
    reached: list[Positions]
    """By share."""
    events: int = 0
    deliveries: int = 0
    bytes: int = 0
    unreadable: int = 0
    started_ms: int | None = None

    @classmethod
    def of(cls, order: Replay, progress: Progress | None, webhooks: int, now_ms: int) -> Course:
        """From its beginning, with this many webhooks; or from where it is."""
        if progress is None or not progress.partitions:
            start = {span.partition: span.start for span in order.window}
            shares = min(max(webhooks, 1), MOST_SHARES)
            return cls(order, [dict(start) for _ in range(shares)], started_ms=now_ms)
        reached = [Positions() for _ in range(max(one.share for one in progress.partitions) + 1)]
        for one in progress.partitions:
            reached[one.share][one.partition] = one.next
        counts = progress.events, progress.deliveries, progress.bytes, progress.unreadable
        return cls(order, reached, *counts, progress.started_ms or now_ms)

    @property
    def shares(self) -> int:
        """How many shares there are."""
        return len(self.reached)

    def together(self) -> dict[frozenset[int], Positions]:
        """Which shares are to be read for together, and from where: those that are at the same place, and not over."""
        groups: dict[tuple[tuple[int, int], ...], set[int]] = {}
        for share, positions in enumerate(self.reached):
            if self.spans(positions):
                groups.setdefault(tuple(sorted(positions.items())), set()).add(share)
        return {frozenset(shares): dict(place) for place, shares in groups.items()}

    def spans(self, positions: Mapping[int, int]) -> tuple[Span, ...]:
        """What is left of the window from there."""
        left = (Span(one.partition, positions[one.partition], one.end) for one in self.order.window)
        return tuple(span for span in left if span.start < span.end)

    def note(self, shares: frozenset[int], positions: Mapping[int, int], looked: Looked) -> None:
        """All that lies before these positions is durable, for these shares, and this is what it came to."""
        first = self._first()
        self.events += _beyond(first, looked.events)
        self.unreadable += _beyond(first, looked.unreadable)
        self.deliveries += looked.deliveries
        self.bytes += looked.bytes
        for share in shares:
            self.reached[share].update(positions)

    def progress(self, state: State, now_ms: int, waiting: str | None = None, error: str | None = None) -> Progress:
        """As a record. All that it says is durable."""
        ends = {span.partition: span.end for span in self.order.window}
        places = tuple(
            Reached(partition, positions[partition], ends[partition], share)
            for share, positions in enumerate(self.reached)
            for partition in sorted(positions)
        )
        counts = self.events, self.deliveries, self.bytes, self.unreadable
        ended_ms = now_ms if state in OVER else None
        return Progress(self.order.id, state, places, *counts, waiting, error, self.started_ms, ended_ms, now_ms)

    def _first(self) -> Positions:
        """Where the share is that is ahead."""
        return {span.partition: max(one[span.partition] for one in self.reached) for span in self.order.window}


def _beyond(first: Mapping[int, int], offsets: Mapping[int, list[int]]) -> int:
    return sum(offset >= first[partition] for partition, held in offsets.items() for offset in held)
