"""A window of a topic: what was asked for, which offsets that is, and what of it is no longer there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.flow.replay import Span


@dataclass(frozen=True, slots=True)
class Asked:
    """Times [from, to) in milliseconds since the epoch, each of which may be missing, or in their place offsets.

    `offsets` are [start, end) by partition; with any, the other partitions are not in the window. `routed` cuts the
    window at what the router has committed: what is behind that is on its way.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    offsets: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    routed: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """What may be gone of a window, since the log of these partitions no longer reaches back to its beginning.

    `oldest_ms` is the time of the oldest record that they all still have; None: they have none. `records` is how many
    are gone, as far as offsets tell: of times alone nobody can say. `from_ms` is where the window was to begin.
    """

    partitions: tuple[int, ...]
    from_ms: int | None = None
    oldest_ms: int | None = None
    records: int | None = None


class Empty(StrEnum):
    """Why a window holds no records."""

    NOTHING = "nothing"
    """There was nothing then, or (of offsets) the log does not go so far."""
    REMOVED = "removed"
    """It lies wholly before what the log still has."""
    UNROUTED = "unrouted"
    """All of it is still on its way: the router has not come so far."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked for as offsets. Partitions of which nothing is in it have no span.

    `oldest_ms` and `newest_ms` are the times between which the whole topic has records now (None: it has none);
    `unrouted` counts the offsets that were cut off since the router has not come so far.
    """

    spans: tuple[Span, ...]
    gap: Gap | None = None
    empty: Empty | None = None
    oldest_ms: int | None = None
    newest_ms: int | None = None
    unrouted: int = 0

    @property
    def records(self) -> int:
        """At most so many records are in it: offsets have holes."""
        return sum(span.end - span.start for span in self.spans)
