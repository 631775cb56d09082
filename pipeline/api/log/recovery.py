"""What a recovery finds, and how it is sent: in the order of time, a part at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from pipeline.api.deps import Deps
from pipeline.api.log.sending import hand_over, in_fresh_round, recorded
from pipeline.api.problems import FieldError, Refusal
from pipeline.flow.history import Status
from pipeline.flow.rounds import FIRST
from pipeline.kafka.topics import DELIVERIES, EVENTS
from pipeline.ports import Outgoing, Record
from pipeline.store.log import DeliveryLog, DeliveryRow, EventRow
from pipeline.store.pages import Page, Place
from pipeline.workers.chosen import Chosen
from pipeline.workers.dead import Undertaker
from pipeline.workers.router import Router

MOST = 5_000
"""Deliveries and events of one recovery: about as many as are read and written within a request's patience."""

LOOKED_AT = 50_000
"""Events that are looked at for those that the webhook wants."""

UNROUTED = "unrouted"
_WANTED = (Status.FAILED, Status.CANCELLED)
_PAGE = 500
_PART = 50
"""So many bodies are in memory at a time."""
_TOO_MANY = f"There are more than {MOST} deliveries and events to recover: give a later time"
_TOO_LONG = f"More than {LOOKED_AT} events came since then: give a later time"

T = TypeVar("T", DeliveryRow, EventRow)


@dataclass(slots=True)
class Found:
    """What there is to recover, and what became of it: `sent` counts, for each kind, by event type."""

    ended: list[DeliveryRow] = field(default_factory=list)
    unrouted: list[EventRow] = field(default_factory=list)
    sent: dict[str, Counter[str]] = field(
        default_factory=lambda: {str(kind): Counter() for kind in (*_WANTED, UNROUTED)}
    )
    under_way: int = 0
    gone: int = 0

    def require_bounded(self, looked_at: int = 0) -> None:
        """Raise `Refusal` (422) when it is too much for one request."""
        too_many = len(self.ended) + len(self.unrouted) > MOST
        if too_many or looked_at > LOOKED_AT:
            words = _TOO_MANY if too_many else _TOO_LONG
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, words, [FieldError("/since", "too_many", words)])


class Recovery:
    """One webhook's. The caller sees to it that there is one at a time. A dry run counts the same and sends nothing."""

    def __init__(self, deps: Deps, tenant: str, webhook: str, *, dry_run: bool) -> None:
        self._deps, self._tenant, self._webhook, self._dry_run = deps, tenant, webhook, dry_run
        self._subscribers = Chosen(deps.records.subscribers, frozenset({webhook}))
        codec = deps.records.codec
        self._router = Router(codec, self._subscribers, Undertaker(codec, deps.clock))

    async def find(self, since_ms: int) -> Found:
        """All that there is, as the log has it. Raises `Refusal` (422) when it is too much."""
        found, looked_at = Found(), 0
        tenancy = self._subscribers.of(self._tenant)
        path = (self._tenant, self._webhook, since_ms)
        async for rows in self._pages(lambda log, after: log.ended(*path, _WANTED, after=after, limit=_PAGE)):
            found.ended += rows
            found.require_bounded()
        async for events in self._pages(lambda log, after: log.unrouted(*path, after, _PAGE)):
            looked_at += len(events)
            found.unrouted += [event for event in events if tenancy is not None and tenancy.wanting(event.type)]
            found.require_bounded(looked_at)
        return found

    async def carry_out(self, found: Found) -> None:
        """Send it, the oldest first; `found` then counts what was sent. Raises `Unreachable`: ask again."""
        for rows in _parts(sorted(found.ended, key=lambda row: row.created_ms)):
            await self._resend(rows, found)
        for events in _parts(sorted(found.unrouted, key=lambda row: row.created_ms)):
            await self._route(events, found)

    async def _pages(self, ask: Callable[[DeliveryLog, Place | None], Page[T]]) -> AsyncIterator[tuple[T, ...]]:
        after: Place | None = None
        while True:
            page = await self._deps.log.ask(partial(_asked, ask, after))
            yield page.items
            if (after := page.next) is None:
                return

    async def _resend(self, rows: Sequence[DeliveryRow], found: Found) -> None:
        bodies = await recorded(self._deps, rows)
        again: list[tuple[str, str, Outgoing]] = []
        for row in rows:
            if self._deps.issued.newer(row.id, row.round) is not None:
                found.under_way += 1
            elif (delivery := bodies.get(row.id)) is None:
                found.gone += 1
            else:
                found.sent[row.status][row.type] += 1
                again.append((row.id, *in_fresh_round(self._deps, row, delivery)))
        await self._send(again)

    async def _route(self, events: Sequence[EventRow], found: Found) -> None:
        records = await self._deps.records.read(EVENTS, [(row.partition, row.offset) for row in events])
        made: list[tuple[str, str, Outgoing]] = []
        for row in events:
            record = records.get((row.partition, row.offset))
            if record is None:
                found.gone += 1
                continue
            for delivery, out in self._routed(record):
                if self._deps.issued.newer(delivery, None) is not None:
                    found.under_way += 1
                else:
                    found.sent[UNROUTED][row.type] += 1
                    made.append((delivery, FIRST, out))
        await self._send(made)

    def _routed(self, record: Record) -> Iterator[tuple[str, Outgoing]]:
        """The delivery that the router makes of the event, with its id; none where it makes none, or a dead letter."""
        for out in self._router(record):
            if out.topic == DELIVERIES:
                yield self._deps.records.codec.delivery(out.value).id, out

    async def _send(self, made: Sequence[tuple[str, str, Outgoing]]) -> None:
        if made and not self._dry_run:
            await hand_over(self._deps, [(one, round_) for one, round_, _ in made], [out for _, _, out in made])


def _asked(ask: Callable[[DeliveryLog, Place | None], Page[T]], after: Place | None, log: DeliveryLog) -> Page[T]:
    return ask(log, after)


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + _PART] for start in range(0, len(rows), _PART))
