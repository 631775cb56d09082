"""How a replay stands, as clients see it: the order, how far it has come, and at what pace."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.api.lists import written_time
from pipeline.api.log.shown import written
from pipeline.flow.replay import DEFAULT_RATE, Progress, Reached, Replay, Span
from pipeline.flow.window import Gap

OutcomeName = Literal["all", "failed", "skipped", "never_routed", "missed"]
_BY_NAME = ConfigDict(populate_by_name=True)


class SpanOut(BaseModel):
    """Offsets of one partition of the topic: from `from` on, before `to`."""

    model_config = _BY_NAME

    partition: int
    from_: int = Field(validation_alias="from", serialization_alias="from")
    to: int


class GapOut(BaseModel):
    """What retention has already taken of the window: it cannot be delivered again."""

    model_config = _BY_NAME

    partitions: list[int] = Field(description="Partitions of which something is gone.")
    from_: str | None = Field(
        validation_alias="from",
        serialization_alias="from",
        description="Where the window was to begin, where a time was given.",
    )
    oldest_at: str | None = Field(description="From when on all of them is still there; null: nothing is.")
    records: int | None = Field(description="How many records are gone, where offsets tell.")


class PartitionOut(BaseModel):
    """How far a partition of the window has been read."""

    model_config = _BY_NAME

    partition: int
    from_: int = Field(validation_alias="from", serialization_alias="from")
    next: int = Field(description="All before it is done with.")
    to: int
    reached: float = Field(description="Which part of it is done with, from 0 to 1: webhooks are not equally far.")


class ProgressOut(BaseModel):
    """How far a replay has come, as the replayer has written it."""

    partitions: list[PartitionOut]
    reached: float = Field(description="Which part of the window is done with, from 0 to 1.")
    events: int = Field(description="Records of the window that were looked at.")
    deliveries: int = Field(description="Deliveries that were written.")
    bytes: int = Field(description="Of the window's records, once for each delivery that was written.")
    unreadable: int
    waiting: str | None = Field(description="Why it does not go on at present.", examples=[None])
    error: str | None = Field(description="Why it has failed.", examples=[None])
    started_at: str | None
    ended_at: str | None
    updated_at: str
    records_per_s: float | None = Field(description="In the last seconds; null while it is not known.")
    deliveries_per_s: float | None
    eta_s: float | None = Field(description="Seconds until it has written all, at that pace.")


class TargetOut(BaseModel):
    """The endpoint of this replay alone. A secret that this very request has generated is shown this once."""

    url: str
    webhook: str = Field(description="What its deliveries name as their webhook.")
    auth: dict[str, str] | None = Field(description="Masked; null when the endpoint has been removed.")


class ReplayOut(BaseModel):
    """A replay: the order, and how it stands."""

    model_config = _BY_NAME

    id: str
    tenant: str | None = Field(description="Whose events; null: everybody's.")
    ordered: Literal["running", "paused", "cancelled"] = Field(description="What is wanted of it.")
    state: Literal["queued", "running", "paused", "cancelled", "done", "failed"] = Field(
        description="How it stands: queued until a replayer has taken it; done when all has been written."
    )
    source: Literal["events", "dead_letters"] = Field(description="What its window is of.")
    window: list[SpanOut]
    from_: str | None = Field(
        validation_alias="from", serialization_alias="from", examples=["2026-01-31T12:00:00.000Z"]
    )
    to: str | None = Field(examples=["2026-01-31T13:00:00.000Z"])
    types: list[str] = Field(examples=[["invoice.*"]])
    webhooks: list[str] = Field(examples=[["wh_4fQ2xT9bLmZaR7cVnKpW1s"]])
    outcome: OutcomeName
    reasons: list[str] = Field(description="Of dead letters: for these reasons alone.", examples=[[]])
    target: TargetOut | None
    rate: float
    by: str = Field(description="The id of the key that it was ordered with.", examples=["4fQ2xT9bLmZa"])
    created_at: str
    updated_at: str
    progress: ProgressOut | None = Field(description="Null until a replayer has taken it.")


class ReplayDetail(ReplayOut):
    """A replay with what became of its deliveries."""

    statuses: dict[str, int] | None = Field(
        description="Its deliveries in the delivery log by status; null while the log cannot be asked.",
        examples=[{"delivered": 2, "failed": 1}],
    )
    statuses_note: str | None = Field(description="Why they are not known.", examples=[None])


class ReplayStarted(ReplayOut):
    """A replay that has just been ordered."""

    gap: GapOut | None = Field(description="What retention has taken of the window; null: nothing.")


def span_out(span: Span) -> SpanOut:
    """Offsets as clients see them."""
    return SpanOut(partition=span.partition, from_=span.start, to=span.end)


def gap_out(gap: Gap | None) -> GapOut | None:
    """What is gone of a window, as clients see it."""
    if gap is None:
        return None
    return GapOut(
        partitions=list(gap.partitions),
        from_=_time(gap.from_ms),
        oldest_at=_time(gap.oldest_ms),
        records=gap.records,
    )


def replay_out(
    order: Replay, told: Progress | None, lately: tuple[Progress, Progress] | None, target: TargetOut | None
) -> ReplayOut:
    """A replay as clients see it. `told` is what the replayer says of it, `lately` what it has said in seconds."""
    return ReplayOut(
        id=order.id,
        tenant=order.tenant,
        ordered=order.ordered.value,
        state="queued" if told is None else told.state.value,
        source=order.source.value,
        window=[span_out(span) for span in order.window],
        from_=_time(order.from_ms),
        to=_time(order.to_ms),
        types=list(order.types),
        webhooks=list(order.webhooks),
        outcome=order.outcome.value,
        reasons=list(order.reasons),
        target=target,
        rate=order.rate or DEFAULT_RATE,
        by=order.by,
        created_at=written_time(order.created_ms),
        updated_at=written_time(order.updated_ms),
        progress=None if told is None else _progress(order, told, lately),
    )


def reached(order: Replay, told: Progress) -> float:
    """Which part of the window is done with, from 0 to 1, over all shares."""
    size = sum(span.end - span.start for span in order.window)
    done = sum(_part(span, told) * (span.end - span.start) for span in order.window)
    return done / size if size else 1.0


def _progress(order: Replay, told: Progress, lately: tuple[Progress, Progress] | None) -> ProgressOut:
    done = reached(order, told)
    window, records, deliveries = _paces(order, lately)
    return ProgressOut(
        partitions=[_partition(span, told) for span in order.window],
        reached=round(done, 6),
        events=told.events,
        deliveries=told.deliveries,
        bytes=told.bytes,
        unreadable=told.unreadable,
        waiting=told.waiting,
        error=told.error,
        started_at=_time(told.started_ms),
        ended_at=_time(told.ended_ms),
        updated_at=written_time(told.time_ms),
        records_per_s=records,
        deliveries_per_s=deliveries,
        eta_s=round((1 - done) / window, 1) if window else None,
    )


def _partition(span: Span, told: Progress) -> PartitionOut:
    at = min((one.next for one in _of(span, told)), default=span.start)
    part = round(_part(span, told), 6)
    return PartitionOut(partition=span.partition, from_=span.start, next=at, to=span.end, reached=part)


def _part(span: Span, told: Progress) -> float:
    """Which part of one partition is done with: the mean of its shares."""
    shares, size = _of(span, told), span.end - span.start
    if size <= 0:
        return 1.0
    parts = [min(max(one.next - span.start, 0) / size, 1.0) for one in shares]
    return sum(parts) / len(parts) if parts else 0.0


def _of(span: Span, told: Progress) -> list[Reached]:
    return [one for one in told.partitions if one.partition == span.partition]


def _paces(order: Replay, lately: tuple[Progress, Progress] | None) -> tuple[float | None, float | None, float | None]:
    """A second: of the whole window, of records, of deliveries. None where nothing tells."""
    if lately is None or lately[1].time_ms <= lately[0].time_ms:
        return None, None, None
    first, last = lately
    seconds = (last.time_ms - first.time_ms) / 1000
    window = (reached(order, last) - reached(order, first)) / seconds
    records, deliveries = last.events - first.events, last.deliveries - first.deliveries
    return window, round(records / seconds, 1), round(deliveries / seconds, 1)


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else written(time_ms)
