"""Events, deliveries and attempts as clients see them."""

from __future__ import annotations

from typing import Any, assert_never

from pydantic import BaseModel, Field

from pipeline.api.lists import written_time
from pipeline.flow.deliver import Attempt, Dead, Done, Next, Retry, Skipped, Verdict
from pipeline.flow.history import AttemptSeen, Status
from pipeline.kafka.topics import ATTEMPTS, DELIVERIES, EVENTS
from pipeline.store.log import DeliveryRow, EventRow


class RecordPlace(BaseModel):
    """Where a record lies in Kafka."""

    topic: str
    partition: int
    offset: int


class DeliveryOut(BaseModel):
    """A delivery: one event for one webhook. Its id is what the endpoint sees as `webhook-id`."""

    id: str
    webhook: str
    event: str
    type: str
    status: Status
    attempt_count: int = Field(description="Requests made in the newest round.")
    last_verdict: Verdict | None = Field(description="Of the last attempt.")
    last_status_code: int | None
    last_duration_ms: int | None
    next_attempt_at: str | None = Field(description="When the next attempt is due, where one is.")
    round: str = Field(description="Empty at first; each redelivery has one of its own.")
    created_at: str
    event_time: str | None
    replay: str | None


class Header(BaseModel):
    """A header; what proves the sender is masked."""

    name: str
    value: str


class After(BaseModel):
    """What followed an attempt."""

    kind: str = Field(description="done, retry, dead (no further attempt) or skipped (nothing was sent).")
    wait_ms: int | None = None
    reason: str | None = None


class Tried(BaseModel):
    """One request, and what it came to."""

    attempt: int
    round: str
    started_at: str
    duration_ms: int
    verdict: Verdict
    status_code: int | None
    request_headers: list[Header]
    response_headers: list[Header]
    response_body: str = Field(description="Its first 16 KiB.")
    next: After


class AttemptOut(Tried):
    """The same, and where its record lies."""

    record: RecordPlace


class DeliveryDetail(DeliveryOut):
    """A delivery with its attempts, oldest first, and its body."""

    attempts: list[AttemptOut]
    body: str | None = Field(description="What every attempt sends; null when retention has taken it.")
    body_note: str | None = Field(description="Why there is no body.")
    record: RecordPlace | None = Field(description="Where the delivery lies.")
    origin: RecordPlace | None = Field(description="Where its event lies.")
    subscriptions_offset: int | None = Field(description="How far the router had read the webhooks.")


class EventOut(BaseModel):
    """An event, as the log has it."""

    id: str
    type: str
    time: str
    created_at: str
    record: RecordPlace


class EventDetail(EventOut):
    """An event with its deliveries."""

    data: Any = Field(description="As its producer wrote it; null when retention has taken it.")
    data_note: str | None = Field(description="Why there is no data.")
    actor: str | None
    subject: str | None
    source: str | None
    deliveries: list[DeliveryOut]


def delivery_out(row: DeliveryRow) -> DeliveryOut:
    """A delivery as the log has it."""
    return DeliveryOut(
        id=row.id,
        webhook=row.webhook,
        event=row.event,
        type=row.type,
        status=row.status,
        attempt_count=row.attempts,
        last_verdict=row.verdict,
        last_status_code=row.status_code,
        last_duration_ms=row.duration_ms,
        next_attempt_at=_time(row.next_ms),
        round=row.round,
        created_at=written(row.created_ms),
        event_time=_time(row.time_ms),
        replay=row.replay,
    )


def delivery_detail(
    row: DeliveryRow, attempts: tuple[AttemptSeen, ...], body: str | None, note: str | None
) -> DeliveryDetail:
    """The same with all that is known of it."""
    return DeliveryDetail(
        **delivery_out(row).model_dump(),
        attempts=[_attempt(seen) for seen in attempts],
        body=body,
        body_note=note,
        record=_place(DELIVERIES, row.partition, row.offset),
        origin=_place(EVENTS, row.event_partition, row.event_offset),
        subscriptions_offset=row.subscriptions_offset,
    )


def event_out(row: EventRow) -> EventOut:
    """An event as the log has it."""
    return EventOut(
        id=row.id,
        type=row.type,
        time=written(row.time_ms),
        created_at=written(row.created_ms),
        record=RecordPlace(topic=EVENTS, partition=row.partition, offset=row.offset),
    )


def _attempt(seen: AttemptSeen) -> AttemptOut:
    place = RecordPlace(topic=ATTEMPTS, partition=seen.partition, offset=seen.offset)
    return AttemptOut(**tried(seen.attempt).model_dump(), record=place)


def tried(one: Attempt) -> Tried:
    """An attempt as clients see it."""
    return Tried(
        attempt=one.attempt,
        round=one.round,
        started_at=written_time(one.started_ms),
        duration_ms=one.duration_ms,
        verdict=one.verdict,
        status_code=one.status_code,
        request_headers=_headers(one.request_headers),
        response_headers=_headers(one.response_headers),
        response_body=one.response_body.decode(errors="replace"),
        next=_after(one.next),
    )


def _headers(headers: tuple[tuple[str, str], ...]) -> list[Header]:
    return [Header(name=name, value=value) for name, value in headers]


def _after(then: Next) -> After:
    match then:
        case Done():
            return After(kind="done")
        case Retry(wait_ms):
            return After(kind="retry", wait_ms=wait_ms)
        case Dead(reason):
            return After(kind="dead", reason=reason)
        case Skipped():
            return After(kind="skipped")
        case _:
            assert_never(then)


def _place(topic: str, partition: int | None, offset: int | None) -> RecordPlace | None:
    if partition is None or offset is None:
        return None
    return RecordPlace(topic=topic, partition=partition, offset=offset)


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else written(time_ms)


def written(time_ms: int) -> str:
    """A producer may have written any number."""
    try:
        return written_time(time_ms)
    except (ValueError, OverflowError, OSError):
        return f"@{time_ms}"
