"""What the log is asked. Each list is read along one index, newest first, from where the page before ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, CompoundSelect, Row, Select, Table, and_, desc, func, select, tuple_, union_all

from pipeline.flow.audit import TENANT_REMOVED, Audit
from pipeline.flow.deliver import Answers, Attempt, Dead, Done, Next, Retry, Skipped, Verdict
from pipeline.flow.history import AttemptSeen, Status
from pipeline.store.log.entries import STATES, indexed, told
from pipeline.store.log.rows import AuditFilter, DeliveryFilter, DeliveryRow, EventFilter, EventRow
from pipeline.store.log.tables import attempts, audits, deliveries, events
from pipeline.store.pages import Place

Query = Select[Any] | CompoundSelect[Any]
Condition = ColumnElement[bool]

_DELIVERY = (
    deliveries.c.tenant,
    deliveries.c.id,
    deliveries.c.webhook,
    deliveries.c.event,
    deliveries.c.type,
    deliveries.c.state,
    deliveries.c.round,
    deliveries.c.last_round,
    deliveries.c.attempt,
    deliveries.c.created_ms,
    deliveries.c.time_ms,
    deliveries.c.verdict,
    deliveries.c.status_code,
    deliveries.c.duration_ms,
    deliveries.c.next_ms,
    deliveries.c.partition,
    deliveries.c["offset"],
    deliveries.c.event_partition,
    deliveries.c.event_offset,
    deliveries.c.subscriptions_offset,
    deliveries.c.replay,
)
_EVENT = tuple(events.c[name] for name in ("tenant", "id", "type", "time_ms", "created_ms", "partition", "offset"))
_AUDIT = tuple(audits.c[name] for name in ("id", "created_ms", "key", "role", "action", "tenant", "target", "detail"))


def delivery(tenant: str, delivery_id: str) -> Query:
    """One delivery."""
    return select(*_DELIVERY).where(deliveries.c.tenant == told(tenant), deliveries.c.id == told(delivery_id))


def deliveries_page(
    tenant: str, wanted: DeliveryFilter, after: Place | None, limit: int, *, dialect: str = "sqlite"
) -> Query:
    """A page of deliveries.

    Every index has the state before the time. A page of several states, or of all, merges their stretches, of each of
    which no more is read than is given out: so no combination of filters needs an index of its own without the state.
    A replay's deliveries have one of their own; what other filters leave of them is found by passing the rest.
    """
    conditions = [deliveries.c.tenant == told(tenant)]
    if wanted.webhook is not None:
        conditions.append(deliveries.c.webhook == told(wanted.webhook))
    if wanted.type is not None:
        conditions.append(deliveries.c.type == indexed(wanted.type))
    if wanted.replay is not None:
        conditions.append(deliveries.c.replay == told(wanted.replay))
    conditions += stretch(deliveries, wanted.from_ms, wanted.to_ms, after)
    one_state = [
        select(*_DELIVERY).where(*conditions, deliveries.c.state == STATES.index(status))
        for status in STATES
        if not wanted.statuses or status in wanted.statuses
    ]
    if not one_state:  # nothing in the log is `sending`
        return select(*_DELIVERY).where(deliveries.c.tenant.is_(None)).limit(0)
    if len(one_state) == 1:
        return in_order(one_state[0], deliveries, limit)
    if dialect == "postgresql":  # merges what says itself that it is in order
        one_state = [select(in_order(one, deliveries, limit).subquery()) for one in one_state]
    return union_all(*one_state).order_by(desc("created_ms"), desc("id")).limit(limit)


def deliveries_of_event(tenant: str, event_id: str, limit: int) -> Query:
    """An event's deliveries."""
    of_event = select(*_DELIVERY).where(deliveries.c.tenant == told(tenant), deliveries.c.event == indexed(event_id))
    return of_event.order_by(deliveries.c.webhook, deliveries.c.id).limit(limit)


def replayed(replay: str) -> Query:
    """How many deliveries of a replay, or of an order over dead letters, there are in each state: two indices hold all.

    An id is of one or the other, so each state is there once.
    """
    of = (deliveries.c.replay == told(replay), deliveries.c.redrive == told(replay))
    counted = (select(deliveries.c.state, func.count().label("number")).where(mine) for mine in of)
    return union_all(*(one.group_by(deliveries.c.state) for one in counted))


def attempts_of(tenant: str, delivery_id: str, limit: int) -> Query:
    """A delivery's last attempts, the newest first, each with what the delivery says."""
    ours = and_(attempts.c.tenant == deliveries.c.tenant, attempts.c.delivery == deliveries.c.id)
    of_delivery = (
        select(attempts, deliveries.c.webhook, deliveries.c.event, deliveries.c.type)
        .join_from(attempts, deliveries, ours)
        .where(attempts.c.tenant == told(tenant), attempts.c.delivery == told(delivery_id))
    )
    order = (attempts.c.round, attempts.c.attempt, attempts.c["offset"], attempts.c.partition)
    return of_delivery.order_by(*(column.desc() for column in order)).limit(limit)


def event(tenant: str, event_id: str) -> Query:
    """One event."""
    return select(*_EVENT).where(events.c.tenant == told(tenant), events.c.id == indexed(event_id))


def events_page(tenant: str, wanted: EventFilter, after: Place | None, limit: int) -> Query:
    """A page of events."""
    conditions = [events.c.tenant == told(tenant), *stretch(events, wanted.from_ms, wanted.to_ms, after)]
    if wanted.type is not None:
        conditions.append(events.c.type == indexed(wanted.type))
    return in_order(select(*_EVENT).where(*conditions), events, limit)


def audits_page(wanted: AuditFilter, after: Place | None, limit: int) -> Query:
    """A page of changes."""
    conditions = stretch(audits, wanted.from_ms, wanted.to_ms, after)
    if wanted.tenant is not None:
        conditions.append(audits.c.tenant == told(wanted.tenant))
    return in_order(select(*_AUDIT).where(*conditions), audits, limit)


def removed_tenants() -> Query:
    """The ids of tenants of whose removal the log knows."""
    return select(audits.c.tenant).where(audits.c.action == TENANT_REMOVED, audits.c.tenant.is_not(None)).distinct()


def in_order(query: Select[Any], table: Table, limit: int) -> Select[Any]:
    """The newest first."""
    return query.order_by(table.c.created_ms.desc(), table.c.id.desc()).limit(limit)


def stretch(table: Table, from_ms: int | None, to_ms: int | None, after: Place | None) -> list[Condition]:
    """From when, and before when or what: one bound on each side, which an index can begin and end at."""
    ends = [(to_ms, "")] if to_ms is not None else []
    ends += [(-after[0], told(after[1]))] if after is not None else []
    made = [table.c.created_ms >= from_ms] if from_ms is not None else []
    return [*made, tuple_(table.c.created_ms, table.c.id) < tuple_(*min(ends))] if ends else made


def to_delivery(row: Row[Any]) -> DeliveryRow:
    """A delivery as it was selected."""
    status = STATES[row.state]
    made = row.attempt - (row.verdict == Verdict.SKIPPED) if row.last_round == row.round else 0
    placed = row.offset >= 0
    return DeliveryRow(
        row.tenant,
        row.id,
        row.webhook,
        row.event,
        row.type,
        status,
        row.round,
        made,
        row.created_ms,
        row.time_ms,
        None if row.verdict is None else Verdict(row.verdict),
        row.status_code,
        row.duration_ms,
        row.next_ms if status == Status.RETRYING else None,
        row.partition if placed else None,
        row.offset if placed else None,
        row.event_partition,
        row.event_offset,
        row.subscriptions_offset,
        row.replay,
    )


def to_event(row: Any) -> EventRow:
    """An event as it was selected."""
    return EventRow(*row)


def to_audit(row: Any) -> Audit:
    """A change as it was selected."""
    return Audit(*row)


def to_attempts(found: Sequence[Row[Any]]) -> tuple[AttemptSeen, ...]:
    """Attempts as they were selected, the oldest first."""
    return tuple(_attempt(row) for row in reversed(found))


def _attempt(row: Row[Any]) -> AttemptSeen:
    attempt = Attempt(
        row.delivery,
        row.round,
        row.hop,
        row.event,
        row.tenant,
        row.webhook,
        row.type,
        row.attempt,
        row.created_ms,
        row.duration_ms,
        Verdict(row.verdict),
        row.status_code,
        _headers(row.request_headers),
        _headers(row.response_headers),
        row.response_body,
        _next(row),
        Answers(row.answers_partition, row.answers_offset),
    )
    return AttemptSeen(attempt, row.partition, row.offset)


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in orjson.loads(text))


def _next(row: Row[Any]) -> Next:
    match row.next:
        case "done":
            return Done()
        case "retry":
            return Retry(row.wait_ms)
        case "dead":
            return Dead(row.reason)
        case _:
            return Skipped()
