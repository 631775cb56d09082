"""The router: joins an event against its tenant's subscriptions; a delivery for each webhook that wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Delivery, Origin, delivery_id
from pipeline.flow.event import Event, fault
from pipeline.flow.filters import Sight, Undecided
from pipeline.ports import Codec, Outgoing, Record, Subscribers, Tenancy
from pipeline.workers.carriage import FIRST, LIMIT
from pipeline.workers.dead import Undertaker

TOPIC = "deliveries"
_NAMED = 5
"""So many webhooks a dead letter names."""


@dataclass(frozen=True, slots=True)
class Router:
    """One event in; its deliveries out, or its dead letter.

    The view that `subscribers` looks into must be at least as new as the reading of the record: the caller sees to
    that. With the id of a `replay` each is a new delivery, which names the first one.
    """

    codec: Codec
    subscribers: Subscribers
    undertaker: Undertaker
    topic: str = TOPIC
    replay: str | None = None

    def __call__(self, record: Record) -> list[Outgoing]:
        """What the record causes. Raises nothing for a record that is bad."""
        try:
            event = self.codec.event(record)
        except Undecodable as error:
            return [self.undertaker.bury(record, Reason(error.reason), str(error))]
        return self.route(record, event)

    def route(self, record: Record, event: Event) -> list[Outgoing]:
        """The same for who has read the event already."""
        wrong = fault(event)
        try:
            tenancy = None if wrong else self.subscribers.of(event.tenant)
        except Undecodable as error:
            return [self.undertaker.bury(record, Reason(error.reason), str(error))]
        if wrong:
            return [self.undertaker.bury(record, Reason.INVALID, wrong)]
        if tenancy is None:
            return [self.undertaker.bury(record, Reason.UNKNOWN_TENANT, f"tenant {event.tenant!r} is not known")]
        if refusal := tenancy.profile.refusal(event):
            return [self.undertaker.bury(record, *refusal)]
        untold = [f"{key}: the webhook's record cannot be read" for key in tenancy.unreadable]
        deliveries = list(self._deliveries(record, event, tenancy, untold))
        return [*deliveries, *self._untold(record, untold)]

    def _untold(self, record: Record, untold: list[str]) -> list[Outgoing]:
        """A webhook that cannot be judged may want the event: that is not known, and must not be forgotten."""
        if not untold:
            return []
        detail = f"whether these want it is not known: {'; '.join(untold[:_NAMED])}"
        if len(untold) > _NAMED:
            detail += f"; and {len(untold) - _NAMED} more"
        return [self.undertaker.bury(record, Reason.UNDECODABLE, detail)]

    def _deliveries(self, record: Record, event: Event, tenancy: Tenancy, untold: list[str]) -> Iterator[Outgoing]:
        """One for each webhook that wants the event; those of which that cannot be said are added to `untold`."""
        webhooks = tenancy.wanting(event.type)
        if not webhooks:
            return
        digest = hashlib.sha256(event.data.encode()).digest()
        origin = Origin(record.topic, record.partition, record.offset, self.subscribers.offset)
        for webhook, seen in seen_by(webhooks, event, tenancy, untold):
            number = delivery_id(event, webhook, digest, self.replay)
            first = delivery_id(event, webhook, digest) if self.replay else None
            body = tenancy.profile.body(seen, tenancy.tenant, number)
            named = number, event.tenant, webhook, event.id, event.type, event.source, event.time_ms
            yield self._outgoing(record, Delivery(*named, body, 1, origin, self.replay, first))

    def _outgoing(self, record: Record, delivery: Delivery) -> Outgoing:
        out = Outgoing(self.topic, delivery.path.encode(), self.codec.encode_delivery(delivery), FIRST)
        if out.size > LIMIT:
            detail = f"the body for webhook {delivery.webhook} has {len(delivery.body)} bytes; a delivery holds {LIMIT}"
            return self.undertaker.bury(record, Reason.TOO_LARGE, detail)
        return out


def seen_by(webhooks: Iterable[str], event: Event, tenancy: Tenancy, untold: list[str]) -> Iterator[tuple[str, Event]]:
    """Each webhook that wants the event by its content too, and the event as it gets it."""
    sight = Sight(event)
    for webhook in webhooks:
        content = tenancy.contents.get(webhook)
        seen = event if content is None else sight.through(content)
        if isinstance(seen, Undecided):
            untold.append(f"{event.tenant}/{webhook}: {seen.reason}")
        elif seen is not None:
            yield webhook, seen
