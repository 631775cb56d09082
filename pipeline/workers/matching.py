"""A replay's window of events, matched anew: what each record of it comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import Undecodable
from pipeline.flow.event import Event
from pipeline.flow.history import Status
from pipeline.flow.replay import Outcome, Replay
from pipeline.ports import Codec, Outgoing, Record
from pipeline.workers.outcomes import outcome_of, wanted
from pipeline.workers.router import Router
from pipeline.workers.sifting import Sieve

Learn = Callable[[Sequence[bytes | None]], Awaitable[None]]
"""Know the schemas of these values; returns when they are known, or known to be unknown."""
Outcomes = Callable[[str, Collection[str]], Awaitable[Iterable[tuple[str, str, Collection[Status]]]]]
"""Of a tenant's events: event, webhook, and the statuses of its deliveries there. Raises `Unreachable`."""
Known = Mapping[tuple[str, str, str], Collection[Status]]
"""By tenant, event and webhook."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A delivery to be written: its webhook (`tenant/webhook`), and by what it has its share.

    `bytes` are those of the record of the window that it comes of. What comes of one record and must stay together has
    one share, whatever its webhooks.
    """

    path: str
    out: Outgoing
    bytes: int
    by: str


@dataclass(frozen=True, slots=True)
class Made:
    """What a record of a window comes to. `unreadable`: nothing can be made of it, or of a part of it.

    `letter` is written once the deliveries are durable.
    """

    record: Record
    bound: tuple[Bound, ...] = ()
    unreadable: bool = False
    letter: Outgoing | None = None


class Making(Protocol):
    """Makes deliveries of a window's records."""

    def __call__(self, records: Sequence[Record]) -> Awaitable[list[Made]]:
        """One for each, in order. Raises `Unreachable`: call again."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Implements `Making` for events. `router` is one for the replay; what it cannot route is no dead letter again."""

    order: Replay
    codec: Codec
    router: Router
    learn: Learn
    outcomes: Outcomes

    async def __call__(self, records: Sequence[Record]) -> list[Made]:
        """As the subscriptions are now; where an outcome is asked for, as the delivery log is now."""
        sieve = Sieve.of(self.order.tenant, self.order.types)
        meant = [not sieve.skips(record) for record in records]
        await self.learn([record.value for record, means in zip(records, meant, strict=True) if means])
        read = [self._event(record, sieve) if means else None for record, means in zip(records, meant, strict=True)]
        known = await self._known([one for one in read if isinstance(one, Event)])
        return [self._made(record, one, known) for record, one in zip(records, read, strict=True)]

    def _event(self, record: Record, sieve: Sieve) -> Event | Undecodable | None:
        """None for one that the order does not mean, whatever its headers say."""
        try:
            event = self.codec.event(record)
        except Undecodable as error:
            return error
        return event if sieve(event.tenant, event.type) else None

    async def _known(self, events: Iterable[Event]) -> Known:
        if self.order.outcome is Outcome.ALL:
            return {}
        ids: dict[str, set[str]] = {}
        for event in events:
            ids.setdefault(event.tenant, set()).add(event.id)
        return {
            (tenant, event, webhook): statuses
            for tenant, named in ids.items()
            for event, webhook, statuses in await self.outcomes(tenant, named)
        }

    def _made(self, record: Record, event: Event | Undecodable | None, known: Known) -> Made:
        if not isinstance(event, Event):
            return Made(record, unreadable=event is not None)
        routed = self.router.route(record, event)
        deliveries = [out for out in routed if out.topic == self.router.topic]
        bound = tuple(bound_of(out, record) for out in deliveries if self._wants(event, out, known))
        return Made(record, bound, unreadable=len(deliveries) < len(routed))

    def _wants(self, event: Event, out: Outgoing, known: Known) -> bool:
        webhook = _path(out).partition("/")[2]
        return wanted(self.order.outcome, outcome_of(known.get((event.tenant, event.id, webhook), ())))


def bound_of(out: Outgoing, record: Record, by: str | None = None) -> Bound:
    """What the writing of a delivery of that record needs to know of it."""
    path = _path(out)
    return Bound(path, out, len(record.value or b""), path if by is None else by)


def _path(out: Outgoing) -> str:
    return (out.key or b"").decode()
