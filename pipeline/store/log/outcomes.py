"""What became of events: asked by a replay that wants those with some outcome, and by its plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select

from pipeline.flow.history import Status
from pipeline.flow.replay import Span
from pipeline.store.log.entries import STATES, indexed, told
from pipeline.store.log.tables import deliveries

AT_ONCE = 500
"""Events that one query asks for."""
SPANS_AT_ONCE = 200
"""SQLite takes a condition of at most 1,000 parts."""

Found = tuple[str, str, tuple[Status, ...]]
"""Event, webhook, and how its deliveries there stand."""


def of_events(tenant: str, events: Iterable[str], apart_from: str | None) -> Select[Any]:
    """How the deliveries of these events stand, those of one replay left out."""
    conditions = [deliveries.c.tenant == told(tenant), deliveries.c.event.in_(list(events))]
    if apart_from is not None:
        conditions.append(or_(deliveries.c.replay.is_(None), deliveries.c.replay != told(apart_from)))
    return select(deliveries.c.event, deliveries.c.webhook, deliveries.c.state).where(*conditions)


def parts(events: Iterable[str]) -> Iterator[dict[str, str]]:
    """The ids as the log keeps them, and as they are: for one query each."""
    left = iter({indexed(event): event for event in events}.items())
    while part := dict(islice(left, AT_ONCE)):
        yield part


def to_found(rows: Iterable[Row[Any]], known: Mapping[str, str]) -> Sequence[Found]:
    """Each event and webhook once."""
    held: defaultdict[tuple[str, str], list[Status]] = defaultdict(list)
    for row in rows:
        held[known[row.event], row.webhook].append(STATES[row.state])
    return [(event, webhook, tuple(statuses)) for (event, webhook), statuses in held.items()]


def delivered(tenant: str, window: Sequence[Span], since_ms: int, webhooks: Sequence[str]) -> Select[Any]:
    """How many events of a window have been delivered, by webhook and type; of these webhooks, or all."""
    within = (
        and_(
            deliveries.c.event_partition == span.partition,
            deliveries.c.event_offset >= span.start,
            deliveries.c.event_offset < span.end,
        )
        for span in window
    )
    conditions = [
        deliveries.c.tenant == told(tenant),
        deliveries.c.state == STATES.index(Status.DELIVERED),
        deliveries.c.created_ms >= since_ms,
        or_(*within),
    ]
    if webhooks:
        conditions.append(deliveries.c.webhook.in_(list(map(told, webhooks))))
    number = func.count(deliveries.c.event.distinct())
    query = select(deliveries.c.webhook, deliveries.c.type, number)
    return query.where(*conditions).group_by(deliveries.c.webhook, deliveries.c.type)
