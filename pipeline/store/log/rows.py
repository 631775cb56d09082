"""What the log answers, and what a list of it may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.flow.deadletter import LetterState
from pipeline.flow.deliver import Verdict
from pipeline.flow.history import DeadSeen, Status


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as it stands. Times are milliseconds since the epoch.

    `round` is its newest; `attempts` counts the requests made in that round, while `verdict`, `status_code` and
    `duration_ms` are of the last one ever made (a skipped one counts). `next_ms` is when the next attempt is due, where
    one is. `created_ms` is when it was first seen.

    What its records of `deliveries` alone say is None until one has been read, or if they are gone: `time_ms` (the
    event's), `partition` and `offset` (of the newest of them), the place of the event in `events`, the subscriptions
    offset that the router used, `replay`. `event` and `type` are '' if nothing that was read says them.
    """

    tenant: str
    id: str
    webhook: str
    event: str
    type: str
    status: Status
    round: str
    attempts: int
    created_ms: int
    time_ms: int | None
    verdict: Verdict | None
    status_code: int | None
    duration_ms: int | None
    next_ms: int | None
    partition: int | None
    offset: int | None
    event_partition: int | None
    event_offset: int | None
    subscriptions_offset: int | None
    replay: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event: its newest record in `events`, and when that was written there."""

    tenant: str
    id: str
    type: str
    time_ms: int
    created_ms: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; what is not given does not narrow.

    `statuses` any of these; `from_ms` (inclusive) and `to_ms` (exclusive) are of the time of the making.
    """

    webhook: str | None = None
    statuses: tuple[Status, ...] = ()
    type: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    replay: str | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events; the times are as those of `DeliveryFilter`."""

    type: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters; the times are those of the letters."""

    tenant: str | None = None
    webhook: str | None = None
    reason: str | None = None
    type: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    state: LetterState | None = None


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A dead letter, and how it stands."""

    seen: DeadSeen
    state: LetterState


@dataclass(frozen=True, slots=True)
class DeadCount:
    """Dead letters that have something in common: its value (None: it is not known of them), how many, from when.

    `tenant` is whose a webhook is, where they are counted by webhooks.
    """

    value: str | None
    number: int
    oldest_ms: int
    newest_ms: int
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which changes; a `tenant` of None is every tenant's and the platform's."""

    tenant: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
