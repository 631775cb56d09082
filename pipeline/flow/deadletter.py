"""What could not be delivered, with all that bringing it back needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.flow.deliver import Attempt, Delivery


class Reason(StrEnum):
    """Why a record or a delivery ended here: the whole vocabulary."""

    FRAMING = "framing"
    """Not in the Confluent wire format, or empty."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The registry does not know the schema id."""
    UNDECODABLE = "undecodable"
    """Truncated, of another type, or not readable with our schema."""
    INVALID = "invalid"
    """Read, but a field breaks a rule: an id, the time, `data` that is not JSON or not what the product sends."""
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_TYPE = "unknown_type"
    TOO_LARGE = "too_large"
    """The rendered delivery does not fit its topic."""
    REJECTED = "rejected"
    """The endpoint refused, and the product's rule is not to try again."""
    GONE = "gone"
    """The endpoint answered 410."""
    BLOCKED = "blocked"
    """The egress guard refused the address."""
    EXHAUSTED = "exhausted"
    """The last attempt of the product's rule has failed."""


class LetterState(StrEnum):
    """How a dead letter stands: the whole vocabulary."""

    WAITING = "waiting"
    """Nothing has been done about it, or what was done has been cancelled or skipped."""
    UNDER_WAY = "under_way"
    """Its delivery has a newer round, which has not ended."""
    REDRIVEN = "redriven"
    """That round has arrived, or failed in its turn; or the letter had no delivery, and its event has been routed."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Source:
    """The record that ended here: where it lay."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that the flow set aside.

    `value` and `headers` are the record's own bytes; `detail` says in words what was wrong. Of a value too large to be
    carried, `value` is the first 64 KiB and `digest` the SHA-256 of all of it. `timestamp_ms` is the record's own,
    `redriven_ms` when an event that had no delivery was routed after all: a letter is written anew to say so.
    """

    id: str
    reason: Reason
    detail: str
    source: Source
    time_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    digest: bytes | None = None
    delivery: Delivery | None = None
    last_attempt: Attempt | None = None
    timestamp_ms: int | None = None
    redriven_ms: int | None = None
