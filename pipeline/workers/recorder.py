"""The recorder: what the delivery log holds of each record of the flow; of data and bodies their place alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import Undecodable
from pipeline.flow import deliver, event
from pipeline.flow.deadletter import DeadLetter, Reason
from pipeline.flow.event import Event
from pipeline.flow.history import AttemptSeen, AuditSeen, DeadSeen, DeliverySeen, Entry, EventSeen
from pipeline.ports import Codec, Record
from pipeline.workers.carriage import carried
from pipeline.workers.dead import record_in, round_of

EVENTS, DEAD_LETTERS = "events", "retry-dlq"


def _nobody(_record: Record, _reason: str) -> None:
    """Told of each record that cannot be read."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One record in; what the log holds of it out. None for one that cannot be read: `missed` is told why.

    Whoever works on such a record makes it a dead letter, and that is in the log.
    """

    codec: Codec
    missed: Callable[[Record, str], None] = _nobody

    def __call__(self, record: Record) -> Entry | None:
        """What the record says. Raises nothing for a record that is bad."""
        try:
            return self._entry(record)
        except Undecodable as error:
            self.missed(record, str(error))
            return None

    def value(self, record: Record) -> bytes | None:
        """What is decoded of the record: its schema must be known."""
        return self.codec.named_in(record) if record.topic == EVENTS else record.value

    def inside(self, record: Record) -> bytes | None:
        """What is decoded besides, once that one is known: the event that a dead letter holds."""
        if record.topic != DEAD_LETTERS:
            return None
        try:
            dead = _event_set_aside(self.codec.dead_letter(record.value))
        except Undecodable:
            return None
        return None if dead is None else self.codec.named_in(dead)

    def _entry(self, record: Record) -> Entry:
        match record.topic:
            case "events":
                return self._event(record)
            case "deliveries":
                return self._delivery(record)
            case "attempts":
                return AttemptSeen(self.codec.attempt(record.value), record.partition, record.offset)
            case "retry-dlq":
                return self._dead(record)
            case "audit":
                return AuditSeen(self.codec.decode_audit(record.value))
        raise AssertionError(f"nothing is recorded of {record.topic}")

    def _event(self, record: Record) -> EventSeen:
        seen = self.codec.named_event(record)
        if wrong := event.fault(seen):
            raise Undecodable(Reason.INVALID, wrong)
        place = record.partition, record.offset
        return EventSeen(seen.tenant, seen.id, seen.type, seen.time_ms, *place, record.timestamp_ms)

    def _delivery(self, record: Record) -> DeliverySeen:
        carriage, seen = carried(record), self.codec.delivery(record.value)
        if wrong := deliver.fault(seen):
            raise Undecodable(Reason.INVALID, wrong)
        return DeliverySeen(
            seen.tenant,
            seen.id,
            carriage.round,
            seen.webhook,
            seen.event,
            seen.type,
            seen.time_ms,
            record.partition,
            record.offset,
            record.timestamp_ms,
            seen.attempt,
            seen.replay,
            seen.origin.partition,
            seen.origin.offset,
            seen.origin.subscriptions_offset,
            carriage.order,
        )

    def _dead(self, record: Record) -> DeadSeen:
        letter = self.codec.dead_letter(record.value)
        held = letter.delivery
        seen = DeadSeen(
            letter.id,
            None,
            None,
            None,
            round_of(letter),
            letter.reason.value,
            letter.time_ms,
            record.partition,
            record.offset,
            letter.detail,
            redriven_ms=letter.redriven_ms,
            append_ms=record.timestamp_ms,
        )
        if held is not None:
            known = replace(seen, tenant=held.tenant, webhook=held.webhook, delivery=held.id)
            return replace(known, event=held.event, type=held.type)
        if (event_in := self._event_in(letter)) is not None:
            return replace(seen, tenant=event_in.tenant, event=event_in.id, type=event_in.type)
        return seen

    def _event_in(self, letter: DeadLetter) -> Event | None:
        """The event that was set aside, as far as it can be told."""
        if (dead := _event_set_aside(letter)) is None:
            return None
        try:
            seen = self.codec.named_event(dead)
        except Undecodable:
            return None
        return None if event.fault(seen) else seen


def _event_set_aside(letter: DeadLetter) -> Record | None:
    """The record of `events` that the letter holds whole."""
    return record_in(letter) if letter.source.topic == EVENTS else None
