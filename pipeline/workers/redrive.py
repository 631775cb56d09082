"""Dead letters brought back: each is made into what the flow lacks, from itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.errors import Undecodable
from pipeline.flow import deliver
from pipeline.flow.deadletter import DeadLetter, LetterState, Source
from pipeline.flow.deliver import Carriage, Delivery
from pipeline.flow.event import Event
from pipeline.flow.history import DeadSeen
from pipeline.flow.replay import Replay
from pipeline.flow.rounds import FIRST, RANDOM_BYTES, fresh_round
from pipeline.ports import Clock, Codec, Outgoing, Record, Subscribers
from pipeline.workers.carriage import Headers, to_headers
from pipeline.workers.dead import TOPIC as DEAD_LETTERS
from pipeline.workers.dead import Undertaker, record_in, round_of, written
from pipeline.workers.router import TOPIC, Router

_EVENTS = "events"
_GONE = "its record was too large to be carried, and {topic} does not hold it any more"
_UNWANTED = "no webhook wants the event as they are now: discard the letter, or change a webhook"
_ALL_HAVE_IT = "every webhook that wants the event has its delivery: redeliver one that has failed"


@dataclass(frozen=True, slots=True)
class Had:
    """A delivery that an event has: its id, its webhook, and where its event lies, as far as that is known."""

    id: str
    webhook: str
    partition: int | None
    offset: int | None


class Past(Protocol):
    """What is known of what was: asked for, as little as is needed."""

    def learn(self, values: Iterable[bytes | None]) -> Awaitable[None]:
        """Know the schemas of these values before they are decoded. Raises `Unreachable`."""

    def record(self, source: Source) -> Awaitable[Record | None]:
        """The record that lies there, its schema known; None when it does not any more. Raises `Unreachable`."""

    def deliveries(self, tenant: str, event: str) -> Awaitable[Sequence[Had]]:
        """Every delivery of events of that id, as the delivery log has them. Raises `Unreachable`."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What brings a letter back. `letter`, the letter as it stands then, is written once `deliveries` are durable."""

    deliveries: tuple[Outgoing, ...]
    letter: Outgoing | None = None


@dataclass(frozen=True, slots=True)
class Unredrivable:
    """Nothing can be made of the letter as things are; `reason` says why, and stands after a colon."""

    reason: str


@dataclass(frozen=True, slots=True)
class Redrive:
    """One dead letter in; what brings it back out. The view of `subscribers` must be new enough: the caller's matter.

    A delivery that the letter holds, or that its record is, goes again with its id from attempt 1 in the round given.
    An event that could not be routed is routed anew, to those webhooks that want it now and have no delivery of it; a
    delivery made so is its first, in the first round, so that a repeat is known as one. `closed` says why nothing would
    be sent to a webhook (`tenant/webhook`) now; None if something would. Deliveries carry the id of the `order` that
    they come of, if it is one over many letters: they end with it if it is cancelled.
    """

    codec: Codec
    subscribers: Subscribers
    past: Past
    clock: Clock
    topic: str = TOPIC
    closed: Callable[[str], str | None] = lambda _path: None
    order: str | None = None

    async def __call__(self, letter: DeadLetter, round_: str) -> Redriven | Unredrivable:
        """Raises `Unreachable`, and nothing for a letter that is bad."""
        if letter.delivery is not None:
            return self._sent(letter.delivery, round_)
        record = await self._whole(letter)
        if record is None:
            return Unredrivable(_GONE.format(topic=letter.source.topic))
        if record.topic == _EVENTS:
            return await self._routed(letter, record)
        return self._decoded(letter, record, round_)

    async def _whole(self, letter: DeadLetter) -> Record | None:
        """The record as it was: from the letter, or from where it lay if the letter could not carry all of it."""
        record = record_in(letter)
        if record is None:
            return await self.past.record(letter.source)
        await self.past.learn([record.value])
        return record

    def _sent(self, delivery: Delivery, round_: str, letter: Outgoing | None = None) -> Redriven | Unredrivable:
        if (reason := self.closed(delivery.path)) is not None:
            return Unredrivable(reason)
        value, headers = self.codec.encode_delivery(replace(delivery, attempt=1)), self._headers(round_)
        return Redriven((Outgoing(self.topic, delivery.path.encode(), value, headers),), letter)

    def _headers(self, round_: str) -> Headers:
        return to_headers(Carriage(round_, order=self.order))

    def _decoded(self, letter: DeadLetter, record: Record, round_: str) -> Redriven | Unredrivable:
        """Its schema may be known by now. The letter is written anew with the delivery, so that the log knows of it."""
        try:
            delivery = self.codec.delivery(record.value)
        except Undecodable as error:
            return Unredrivable(str(error))
        if wrong := deliver.fault(delivery):
            return Unredrivable(wrong)
        return self._sent(delivery, round_, written(replace(letter, delivery=delivery), self.codec))

    async def _routed(self, letter: DeadLetter, record: Record) -> Redriven | Unredrivable:
        try:
            event = self.codec.event(record)
        except Undecodable as error:
            return Unredrivable(str(error))
        router = Router(self.codec, self.subscribers, Undertaker(self.codec, self.clock), self.topic)
        made = router.route(record, event)
        left = {(dead := self.codec.dead_letter(out.value)).id: dead for out in made if out.topic == DEAD_LETTERS}
        routed = [replace(out, headers=self._headers(FIRST)) for out in made if out.topic != DEAD_LETTERS]
        still = left.get(letter.id) or next(iter(left.values()), None)
        if fresh := await self._fresh(record, event, routed):
            return Redriven(tuple(fresh), written(self._stands(letter, still), self.codec))
        if still is not None:
            return Unredrivable(still.detail)
        return Unredrivable(_ALL_HAVE_IT if routed else _UNWANTED)

    def _stands(self, letter: DeadLetter, still: DeadLetter | None) -> DeadLetter:
        """Done with; or it waits on, for those who still cannot get the event: the same letter, in the words of now."""
        if still is None:
            return replace(letter, redriven_ms=self.clock())
        return replace(letter, reason=still.reason, detail=still.detail)

    async def _fresh(self, record: Record, event: Event, routed: Sequence[Outgoing]) -> list[Outgoing]:
        """Those that their webhooks lack: neither this delivery nor one of a replay of this very record is there."""
        if not routed:
            return []
        had = await self.past.deliveries(event.tenant, event.id)
        ids = {one.id for one in had}
        webhooks = {one.webhook for one in had if (one.partition, one.offset) == (record.partition, record.offset)}
        made = [(out, self.codec.delivery(out.value)) for out in routed]
        return [out for out, delivery in made if delivery.id not in ids and delivery.webhook not in webhooks]


def round_in(order: Replay, letter: DeadLetter) -> str:
    """The round in which an order brings a letter back: a repeat is the same round, greater than the letter's own."""
    given = hashlib.sha256(f"{order.id}|{letter.id}".encode()).digest()[:RANDOM_BYTES]
    return fresh_round(order.created_ms, given, round_of(letter))


def wanted(order: Replay, seen: DeadSeen, state: LetterState) -> bool:
    """Whether an order over dead letters means this one: it waits, and is of what the order names."""
    named = (order.types, seen.type), (order.webhooks, seen.webhook), (order.reasons, seen.reason)
    return (
        state is LetterState.WAITING
        and order.tenant in {None, seen.tenant}
        and all(not given or held in given for given, held in named)
        and (order.from_ms is None or seen.time_ms >= order.from_ms)
        and (order.to_ms is None or seen.time_ms < order.to_ms)
    )
