"""What the delivery log is made of: each record of the flow, as far as the log keeps it.

An entry says all that its record says, so entries may come in any order and any number of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.flow.audit import Audit
from pipeline.flow.deliver import Attempt


class Status(StrEnum):
    """How a delivery stands: the whole vocabulary.

    The log knows nothing of requests under way, so nothing in it is `sending`.
    """

    PENDING = "pending"
    SENDING = "sending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (Status.DELIVERED, Status.FAILED, Status.CANCELLED)
"""A delivery that stands so may be delivered again."""


@dataclass(frozen=True, slots=True)
class EventSeen:
    """A record of `events`. `append_ms` is the record's timestamp; without one the event's own time is taken."""

    tenant: str
    id: str
    type: str
    time_ms: int
    partition: int
    offset: int
    append_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeliverySeen:
    """A record of `deliveries`: where the delivery lies, and where it comes from.

    `time_ms` is the event's time, `append_ms` the record's timestamp, `attempt` the next attempt's number. The first
    record of a round begins the round; those of later hops only move the delivery's place. `order` is the order over
    dead letters that has begun the round, if one has.
    """

    tenant: str
    id: str
    round: str
    webhook: str
    event: str
    type: str
    time_ms: int
    partition: int
    offset: int
    append_ms: int
    attempt: int
    replay: str | None
    event_partition: int
    event_offset: int
    subscriptions_offset: int
    order: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """A record of `attempts`, and its place there."""

    attempt: Attempt
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadSeen:
    """A record of `retry-dlq`, and its place there.

    `tenant`, `webhook`, `delivery`, `event` and `type` are None as far as it does not say them; `round` is the
    delivery's, `redriven_ms` when an event without a delivery was routed after all. A letter may be written anew:
    the newest, by the record's timestamp `append_ms`, holds.
    """

    id: str
    tenant: str | None
    webhook: str | None
    delivery: str | None
    round: str
    reason: str
    time_ms: int
    partition: int
    offset: int
    detail: str
    event: str | None = None
    type: str | None = None
    redriven_ms: int | None = None
    append_ms: int = 0


@dataclass(frozen=True, slots=True)
class AuditSeen:
    """A record of `audit`."""

    audit: Audit


Entry = EventSeen | DeliverySeen | AttemptSeen | DeadSeen | AuditSeen


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition has been read: the offset of its next record."""

    topic: str
    partition: int
    offset: int
