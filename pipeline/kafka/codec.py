"""Records to and from bytes: the Confluent wire format, Apache Avro, each writer's schema looked up by its id.

The wire format is one byte 0, the schema's id in four bytes (big endian), then the Avro body. Our own records are
read and written with logical types left as the numbers they are (a `datetime` a record would cost more than all the
rest); foreign ones are decoded with them.
"""

from __future__ import annotations

import asyncio
import io
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import fastavro
from confluent_kafka.schema_registry import SchemaRegistryClient

from pipeline.errors import Undecodable
from pipeline.flow.access import ApiKey
from pipeline.flow.audit import Audit
from pipeline.flow.cancels import Cancel
from pipeline.flow.deadletter import DeadLetter
from pipeline.flow.deliver import Attempt, Delivery
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.replay import Progress, Replay
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.flow.trials import WebhookTest
from pipeline.kafka import cloudevents, control_records, records, schemas
from pipeline.kafka.writers import Written, parsed, read, without_logical_types
from pipeline.ports import UNREADABLE, Record
from pipeline.settings import Settings

_HEAD = struct.Struct(">bI")
_FORGET_UNKNOWN_S = 10.0
"""An id that the registry did not know is asked for again after this long: it may have been registered since."""
_MOST_UNKNOWN = 10_000
_MADE = frozenset({"delivery", "round", "hop", "attempt", "next", "answers"})

T = TypeVar("T")


@dataclass(slots=True)
class Codec:
    """Encodes and decodes every record of the flow. `learn` asks the registry; all else is pure and quick."""

    client: SchemaRegistryClient
    heads: dict[str, bytes]
    writers: dict[int, Written] = field(default_factory=dict)
    unknown: dict[int, float] = field(default_factory=dict)

    @classmethod
    async def open(cls, settings: Settings) -> Codec:
        """Look up our own schemas' ids. Raises `Unreachable`, and `PipelineError` when they are not registered."""
        client = schemas.registry(settings)
        ids = await asyncio.to_thread(schemas.ids, client)
        return cls(client, {schemas.SUBJECTS[subject]: _HEAD.pack(0, number) for subject, number in ids.items()})

    def close(self) -> None:
        """Let go of the registry."""
        self.client.close()

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Know the schema ids in these values before they are decoded. Raises `Unreachable`: wait, and call again."""
        now = time.monotonic()
        for number in {
            _HEAD.unpack_from(value)[1] for value in values if value and len(value) >= _HEAD.size and not value[0]
        }:
            if number in self.writers or now - self.unknown.get(number, -_FORGET_UNKNOWN_S) < _FORGET_UNKNOWN_S:
                continue
            writer = await asyncio.to_thread(self._ask, number)
            if writer is None:
                self._unknown(number, now)
            else:
                self.writers[number] = writer

    def _ask(self, number: int) -> Written | None:
        found = schemas.written(self.client, number)
        return None if found is None else parsed(found)

    def _unknown(self, number: int, now: float) -> None:
        if len(self.unknown) >= _MOST_UNKNOWN:
            self.unknown.clear()
        self.unknown[number] = now

    def event(self, record: Record) -> Event:
        """The event of a record of either kind. Raises `Undecodable`."""
        if record.headers is UNREADABLE:
            raise Undecodable("framing", "a header's name is not UTF-8: which kind of event it is cannot be told")
        if cloudevents.is_cloud_event(record):
            writer, body = self._open(record.value)
            return cloudevents.event_of(record, read(body, writer, logical=True))
        return self._decode("event", record.value, records.to_event)

    def named_event(self, record: Record) -> Event:
        """The same for who needs no data: of a CloudEvent the attributes alone are read. Raises `Undecodable`.

        A record of our own is read whole: that takes half the time of reading it in part.
        """
        return self.event(record) if self.named_in(record) is not None else cloudevents.named(record)

    def named_in(self, record: Record) -> bytes | None:
        """What `named_event` decodes of the record's value: its schema must be known. None: nothing."""
        return None if cloudevents.is_cloud_event(record) else record.value or b""

    def delivery(self, value: bytes | None) -> Delivery:
        """A record of `deliveries` or of a tier. Raises `Undecodable`."""
        return self._decode("delivery", value, records.to_delivery)

    def attempt(self, value: bytes | None) -> Attempt:
        """A record of `attempts`. Raises `Undecodable`."""
        return self._decode("attempt", value, records.to_attempt)

    def attempt_made(self, value: bytes | None) -> dict[str, Any]:
        """The fields of a record of `attempts` that tell what was attempted; the others are skipped unread.

        Raises `Undecodable`.
        """
        writer, body = self._open(value)
        return _built(read(body, writer, _what_was_made()), dict)

    def dead_letter(self, value: bytes | None) -> DeadLetter:
        """A record of `retry-dlq`. Raises `Undecodable`."""
        return self._decode("dead_letter", value, records.to_dead_letter)

    def decode_subscription(self, value: bytes | None) -> Subscription:
        """A record of `subscriptions`. Raises `Undecodable`."""
        return self._decode("subscription", value, records.to_subscription)

    def decode_tenant(self, value: bytes | None) -> Tenant:
        """A record of `tenants`. Raises `Undecodable`."""
        return self._decode("tenant", value, records.to_tenant)

    def decode_endpoint_state(self, value: bytes | None) -> EndpointState:
        """A record of `endpoint-state`. Raises `Undecodable`."""
        return self._decode("endpoint_state", value, records.to_endpoint_state)

    def decode_api_key(self, value: bytes | None) -> ApiKey:
        """A record of `keys`. Raises `Undecodable`."""
        return self._decode("api_key", value, control_records.to_api_key)

    def decode_webhook_test(self, value: bytes | None) -> WebhookTest:
        """A record of `webhook-tests`. Raises `Undecodable`."""
        return self._decode("webhook_test", value, control_records.to_webhook_test)

    def decode_cancel(self, value: bytes | None) -> Cancel:
        """A record of `cancels`. Raises `Undecodable`."""
        return self._decode("cancel", value, control_records.to_cancel)

    def decode_replay(self, value: bytes | None) -> Replay:
        """A record of `replays`. Raises `Undecodable`."""
        return self._decode("replay", value, control_records.to_replay)

    def decode_replay_progress(self, value: bytes | None) -> Progress:
        """A record of `replay-progress`. Raises `Undecodable`."""
        return self._decode("replay_progress", value, control_records.to_progress)

    def decode_audit(self, value: bytes | None) -> Audit:
        """A record of `audit`. Raises `Undecodable`."""
        return self._decode("audit", value, control_records.to_audit)

    def encode_event(self, event: Event) -> bytes:
        """A record of `events`."""
        return self._encode("event", records.from_event(event))

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """A record of `deliveries` or of a tier."""
        return self._encode("delivery", records.from_delivery(delivery))

    def encode_attempt(self, attempt: Attempt) -> bytes:
        """A record of `attempts`."""
        return self._encode("attempt", records.from_attempt(attempt))

    def encode_dead_letter(self, letter: DeadLetter) -> bytes:
        """A record of `retry-dlq`."""
        return self._encode("dead_letter", records.from_dead_letter(letter))

    def encode_subscription(self, subscription: Subscription) -> bytes:
        """A record of `subscriptions`."""
        return self._encode("subscription", records.from_subscription(subscription))

    def encode_tenant(self, tenant: Tenant) -> bytes:
        """A record of `tenants`."""
        return self._encode("tenant", records.from_tenant(tenant))

    def encode_endpoint_state(self, state: EndpointState) -> bytes:
        """A record of `endpoint-state`."""
        return self._encode("endpoint_state", records.from_endpoint_state(state))

    def encode_api_key(self, key: ApiKey) -> bytes:
        """A record of `keys`."""
        return self._encode("api_key", control_records.from_api_key(key))

    def encode_webhook_test(self, test: WebhookTest) -> bytes:
        """A record of `webhook-tests`."""
        return self._encode("webhook_test", control_records.from_webhook_test(test))

    def encode_cancel(self, cancel: Cancel) -> bytes:
        """A record of `cancels`."""
        return self._encode("cancel", control_records.from_cancel(cancel))

    def encode_replay(self, replay: Replay) -> bytes:
        """A record of `replays`."""
        return self._encode("replay", control_records.from_replay(replay))

    def encode_replay_progress(self, progress: Progress) -> bytes:
        """A record of `replay-progress`."""
        return self._encode("replay_progress", control_records.from_progress(progress))

    def encode_audit(self, audit: Audit) -> bytes:
        """A record of `audit`."""
        return self._encode("audit", control_records.from_audit(audit))

    def _encode(self, name: str, plain: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        out.write(self.heads[name])
        fastavro.schemaless_writer(out, _ours(name).plain, plain)
        return out.getvalue()

    def _decode(self, name: str, value: bytes | None, build: Callable[[Any], T]) -> T:
        if value is not None and value[:5] == self.heads[name]:
            return _built(read(memoryview(value)[5:], _ours(name)), build)
        writer, body = self._open(value)
        return _built(read(body, writer, _ours(name).plain), build)

    def _open(self, value: bytes | None) -> tuple[Written, memoryview]:
        if value is None or len(value) < _HEAD.size or value[0]:
            raise Undecodable(
                "framing",
                "not in the Confluent wire format (a byte 0, then a schema id)" if value else "the record is empty",
            )
        writer = self.writers.get(number := _HEAD.unpack_from(value)[1])
        if writer is None:
            raise Undecodable("unknown_schema", f"the registry knows no Avro schema of id {number} that can be read by")
        return writer, memoryview(value)[_HEAD.size :]


_parsed: dict[str, Written] = {}


def _ours(name: str) -> Written:
    """Our schema, parsed once."""
    if (held := _parsed.get(name)) is None:
        held = parsed([schemas.load(name)])
        assert held is not None, "our own schemas can be read by"  # noqa: S101
        _parsed[name] = held
    return held


@cache
def _what_was_made() -> Any:
    """Of `attempt.avsc` what a sender needs that takes a partition over; a reader's schema of it costs a tenth less."""
    schema = schemas.load("attempt")
    fields = [field for field in schema["fields"] if field["name"] in _MADE]
    return fastavro.parse_schema(without_logical_types({**schema, "fields": fields}))


def _built(value: Any, build: Callable[[Any], T]) -> T:
    try:
        return build(value)
    except (KeyError, TypeError, ValueError) as error:
        raise Undecodable("undecodable", f"the record lacks what this version needs: {error}") from error
