"""The router: joins an event against its tenant's subscriptions; a delivery for each webhook that wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Delivery, Origin, delivery_id
from pipeline.flow.event import Event, fault
from pipeline.ports import Codec, Outgoing, Record, Subscribers, Tenancy
from pipeline.workers.carriage import FIRST, LIMIT
from pipeline.workers.dead import Undertaker

TOPIC = "deliveries"


@dataclass(frozen=True, slots=True)
class Router:
    """One event in; its deliveries out, or its dead letter.

    The view that `subscribers` looks into must be at least as new as the reading of the record: the caller sees to
    that.
    """

    codec: Codec
    subscribers: Subscribers
    undertaker: Undertaker
    topic: str = TOPIC

    def __call__(self, record: Record) -> list[Outgoing]:
        """What the record causes. Raises nothing for a record that is bad."""
        try:
            event = self.codec.event(record)
            wrong = fault(event)
            tenancy = None if wrong else self.subscribers.of(event.tenant)
        except Undecodable as error:
            return [self.undertaker.bury(record, Reason(error.reason), str(error))]
        if wrong:
            return [self.undertaker.bury(record, Reason.INVALID, wrong)]
        if tenancy is None:
            return [self.undertaker.bury(record, Reason.UNKNOWN_TENANT, f"tenant {event.tenant!r} is not known")]
        if refusal := tenancy.profile.refusal(event):
            return [self.undertaker.bury(record, *refusal)]
        return [*self._deliveries(record, event, tenancy), *self._untold(record, tenancy)]

    def _untold(self, record: Record, tenancy: Tenancy) -> list[Outgoing]:
        """A webhook whose record cannot be read may want the event: that is not known, and must not be forgotten."""
        if not tenancy.unreadable:
            return []
        detail = f"whether {', '.join(tenancy.unreadable)} wants it is not known: the webhook's record cannot be read"
        return [self.undertaker.bury(record, Reason.UNDECODABLE, detail)]

    def _deliveries(self, record: Record, event: Event, tenancy: Tenancy) -> Iterator[Outgoing]:
        webhooks = tenancy.wanting(event.type)
        if not webhooks:
            return
        digest = hashlib.sha256(event.data.encode()).digest()
        origin = Origin(record.topic, record.partition, record.offset, self.subscribers.offset)
        for webhook in webhooks:
            number = delivery_id(event, webhook, digest)
            body = tenancy.profile.body(event, tenancy.tenant, number)
            delivery = Delivery(
                number, event.tenant, webhook, event.id, event.type, event.source, event.time_ms, body, 1, origin
            )
            yield self._outgoing(record, delivery)

    def _outgoing(self, record: Record, delivery: Delivery) -> Outgoing:
        out = Outgoing(self.topic, delivery.path.encode(), self.codec.encode_delivery(delivery), FIRST)
        if out.size > LIMIT:
            detail = f"the body for webhook {delivery.webhook} has {len(delivery.body)} bytes; a delivery holds {LIMIT}"
            return self.undertaker.bury(record, Reason.TOO_LARGE, detail)
        return out
