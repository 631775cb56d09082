"""A delivery log with something in it: records in memory, and rows that a recorder would have made of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pipeline.flow.deliver import (
    Answers,
    Attempt,
    Dead,
    Delivery,
    Done,
    Next,
    Origin,
    Retry,
    Skipped,
    Verdict,
    delivery_id,
)
from pipeline.flow.event import Event
from pipeline.flow.history import AttemptSeen, DeliverySeen, Entry, EventSeen
from pipeline.kafka.topics import DELIVERIES, EVENTS
from pipeline.ports import Outgoing, Record
from pipeline.workers.carriage import FIRST, of_headers
from tests.api.conftest import URL, Api
from tests.api.parts import NOW_MS, Parts

ENDS: dict[str, tuple[Verdict, Next]] = {
    "delivered": (Verdict.DELIVERED, Done()),
    "failed": (Verdict.REJECTED, Dead("rejected")),
    "cancelled": (Verdict.SKIPPED, Skipped()),
    "retrying": (Verdict.TIMEOUT, Retry(60_000)),
}
HOUR_MS = 3_600_000


@dataclass
class Logged:
    """The API with a tenant `acme` and a webhook of it, and their history."""

    api: Api
    parts: Parts
    webhook: str

    async def write(self, *entries: Entry) -> None:
        """As the recorder does."""
        await self.parts.deps.log.ask(lambda log: log.write(entries))

    async def event(
        self, ident: str = "e1", type_: str = "order.paid", data: str = '{"n":1.50}', at: int = NOW_MS
    ) -> Event:
        """An event on Kafka and in the log."""
        made = Event(ident, "acme", type_, at, data, actor="7", source="shop")
        record = self.parts.records.put(Outgoing(EVENTS, b"acme", self.parts.codec.encode_event(made)), at)
        await self.write(EventSeen("acme", ident, type_, at, record.partition, record.offset, at))
        return made

    async def delivery(
        self, event: Event, *, webhook: str = "", end: str = "", at: int = NOW_MS, replay: str | None = None
    ) -> Delivery:
        """Its delivery, or that of a replay, which stands as if it had ended so."""
        webhook = webhook or self.webhook
        number = delivery_id(event, webhook, hashlib.sha256(event.data.encode()).digest(), replay)
        place = Origin(EVENTS, 0, self._offset_of(event), 11)
        made = Delivery(
            number, "acme", webhook, event.id, event.type, event.source, event.time_ms, b'{"body":1}', 1, place, replay
        )
        out = Outgoing(DELIVERIES, made.path.encode(), self.parts.codec.encode_delivery(made), FIRST)
        await self.write(self.seen(self.parts.records.put(out, at)))
        if end:
            await self.attempt(made, end)
        return made

    def seen(self, record: Record) -> DeliverySeen:
        """What a recorder makes of a record of `deliveries`."""
        held, round_ = self.parts.codec.delivery(record.value), of_headers(record.headers).round
        return DeliverySeen(
            held.tenant,
            held.id,
            round_,
            held.webhook,
            held.event,
            held.type,
            held.time_ms,
            record.partition,
            record.offset,
            record.timestamp_ms,
            held.attempt,
            held.replay,
            held.origin.partition,
            held.origin.offset,
            held.origin.subscriptions_offset,
        )

    async def attempt(self, held: Delivery, end: str, round_: str = "", number: int = 1, at: int = NOW_MS) -> None:
        """An attempt of it."""
        verdict, then = ENDS[end]
        status = None if verdict in (Verdict.SKIPPED, Verdict.TIMEOUT) else 200 if end == "delivered" else 400
        headers = (("webhook-id", held.id), ("webhook-signature", "***"))
        made = Attempt(
            held.id, round_, 0, held.event, "acme", held.webhook, held.type, number, at, 12, verdict, status,
            headers, (("Server", "x"),), b"said \xff", then, Answers(0, 0),
        )  # fmt: skip
        await self.write(AttemptSeen(made, 0, number))

    async def recorded(self) -> None:
        """The log comes to know all that was published."""
        held = [one for one in self.parts.records.held.get(DELIVERIES, []) if one is not None]
        await self.write(*map(self.seen, held))

    async def status(self, held: Delivery) -> str:
        """As a client sees it."""
        return str((await self.api.get(f"/v1/tenants/acme/deliveries/{held.id}"))["status"])

    def _offset_of(self, event: Event) -> int:
        records = [one for one in self.parts.records.held[EVENTS] if one is not None]
        return next(one.offset for one in records if self.parts.codec.event(one) == event)


async def logged(api: Api, parts: Parts, **webhook: Any) -> Logged:
    """A tenant with one webhook for every event, and an empty log."""
    webhooks = await api.tenant()
    made = await api.post(webhooks, {"url": URL, "events": ["*"], **webhook})
    return Logged(api, parts, made["id"])
