"""Replays: an order to deliver a window of the log again, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_RATE, MOST_RATE, LEAST_RATE = 500.0, 2_000.0, 0.01
"""Deliveries a second of one replay: where its order names no rate, at most, and at least (one in 100 seconds)."""


class Ordered(StrEnum):
    """What is wanted of a replay."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class State(StrEnum):
    """How a replay stands, as the replayer has written it."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


OVER = (State.CANCELLED, State.DONE, State.FAILED)
"""A replay that stands so never goes on."""


class Outcome(StrEnum):
    """What became of an event at a webhook, over all its deliveries there, as far as a replay asks for it."""

    ALL = "all"
    FAILED = "failed"
    """None has been delivered or is under way; at least one has failed."""
    SKIPPED = "skipped"
    """None has been delivered, has failed or is under way; at least one was cancelled or skipped."""
    NEVER_ROUTED = "never_routed"
    """There is none."""
    MISSED = "missed"
    """Any of the three."""


class Source(StrEnum):
    """What a window is of."""

    EVENTS = "events"
    DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets [start, end) of one partition."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The order. Written by the API alone; times are milliseconds since the epoch.

    `tenant` None: every tenant's events. `types` and `webhooks`: these alone; none: all (of types, `prefix*` too).
    `target_url` is an endpoint for this replay alone: its webhook, which no list shows, is then the only one of
    `webhooks`. `rate` is deliveries a second. `reasons` narrow a window of dead letters.
    """

    id: str
    tenant: str | None
    ordered: Ordered
    window: tuple[Span, ...]
    types: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    outcome: Outcome = Outcome.ALL
    target_url: str | None = None
    rate: float | None = None
    by: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    source: Source = Source.EVENTS
    reasons: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """Of one partition of a window: the offset that is next, and where the window ends there.

    The webhooks of a replay are read for in shares, each at its own pace: one that is slow holds up its own share.
    """

    partition: int
    next: int
    end: int
    share: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay has come. Written by the replayer alone: all that lies before `next` is durable elsewhere.

    `events` counts the records of the window that were looked at, `deliveries` those written; `bytes` are those of the
    window's records, once for each delivery of theirs, as a plan counts them. `unreadable` counts the records that
    nothing could be made of. `waiting` is why it does not go on at present, `error` why it has failed.
    """

    id: str
    state: State
    partitions: tuple[Reached, ...]
    events: int = 0
    deliveries: int = 0
    bytes: int = 0
    unreadable: int = 0
    waiting: str | None = None
    error: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    time_ms: int = 0
