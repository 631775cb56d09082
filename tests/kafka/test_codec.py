from __future__ import annotations

import copy
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, cast

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Answers, Attempt, Dead, Delivery, Done, Origin, Retry, Skipped, Verdict
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Sealed, Subscription, Tenant
from pipeline.kafka import records, schemas
from pipeline.kafka.codec import Codec
from pipeline.kafka.schemas import load
from pipeline.kafka.writers import Written, parsed
from pipeline.ports import Record
from pipeline.settings import Settings
from tests.live_cluster import LiveCluster
from tests.prepared import codec_of, prepared
from tests.workers.parts import CODEC, DELIVERY, HEADS, NOW_MS

TEXT, MAYBE = st.text(max_size=20), st.none() | st.text(max_size=20)
INT, LONG, BYTES = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)
RAW = st.lists(st.tuples(TEXT, BYTES), max_size=3).map(tuple)
FLOAT = st.none() | st.floats(allow_nan=False)
SEALED = st.none() | st.builds(Sealed, TEXT, INT, BYTES)
EVENTS = st.builds(Event, TEXT, TEXT, TEXT, LONG, TEXT, MAYBE, MAYBE, MAYBE)
DELIVERIES = st.builds(
    *(Delivery, TEXT, TEXT, TEXT, TEXT, TEXT, MAYBE, LONG, BYTES, INT),
    *(st.builds(Origin, TEXT, INT, LONG, LONG), MAYBE),
)
NEXT = st.one_of(st.just(Done()), st.just(Skipped()), st.builds(Retry, LONG), st.builds(Dead, TEXT))
ATTEMPTS = st.builds(
    *(Attempt, TEXT, TEXT, INT, TEXT, TEXT, TEXT, TEXT, INT, LONG, INT, st.sampled_from(Verdict), st.none() | INT),
    *(PAIRS, PAIRS, BYTES, NEXT, st.builds(Answers, INT, LONG)),
)
LETTERS = st.builds(
    *(DeadLetter, TEXT, st.sampled_from(Reason), TEXT, st.builds(Source, TEXT, INT, LONG), LONG),
    *(st.none() | BYTES, st.none() | BYTES, RAW, st.none() | BYTES, st.none() | DELIVERIES, st.none() | ATTEMPTS),
)
SUBSCRIPTIONS = st.builds(
    *(Subscription, TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.builds(Auth, TEXT, SEALED), MAYBE),
    *(st.lists(TEXT, max_size=3).map(tuple), st.booleans(), SEALED, SEALED, MAYBE, FLOAT, st.none() | INT),
    *(INT, INT, LONG, LONG, MAYBE),
)
STATES = st.builds(
    *(EndpointState, TEXT, TEXT, INT, st.booleans(), MAYBE, st.none() | LONG, INT, INT, st.none() | LONG),
    *(st.none() | LONG, FLOAT, MAYBE, LONG),
)
TENANTS = st.builds(Tenant, TEXT, TEXT, TEXT, MAYBE, INT, st.dictionaries(TEXT, LONG), SEALED, LONG, LONG, TEXT)

EVENT = Event("evt-1", "acme", "order.paid", NOW_MS, '{"a":1}', source="shop")
AVRO = bytes((0, 0, 0, 1, 0))
CLOUD = (("ce_specversion", b"1.0"), *((f"ce_{name}", b"x") for name in ("id", "type", "source", "tenant")))
TREE = {"type": "record", "name": "Tree", "fields": [{"name": "branches", "type": {"type": "array", "items": "Tree"}}]}


def read(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record("events", 0, 0, None, value, headers, NOW_MS)


def written(schema: Any, value: Any, head: bytes = AVRO) -> bytes:
    out = io.BytesIO(head)
    out.seek(len(head))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def knowing(*schema: Any) -> Codec:
    """A codec that has learned this schema under the id of `AVRO`."""
    writer = parsed(schema)
    assert isinstance(writer, Written)
    return Codec(CODEC.client, HEADS, {256: writer})


def reason(decode: Callable[[], object]) -> str:
    with pytest.raises(Undecodable) as caught:
        decode()
    return caught.value.reason


@given(EVENTS)
def test_an_event_comes_back(event: Event) -> None:
    """What is encoded as a record of `events` is decoded as it was."""
    assert CODEC.event(read(CODEC.encode_event(event))) == event


@given(DELIVERIES)
def test_a_delivery_comes_back(delivery: Delivery) -> None:
    """What is encoded as a record of `deliveries` is decoded as it was."""
    assert CODEC.delivery(CODEC.encode_delivery(delivery)) == delivery


@given(ATTEMPTS)
def test_an_attempt_comes_back(attempt: Attempt) -> None:
    """What is encoded as a record of `attempts` is decoded as it was, with each kind of `next`."""
    assert CODEC.attempt(CODEC.encode_attempt(attempt)) == attempt


@given(LETTERS)
def test_a_dead_letter_comes_back(letter: DeadLetter) -> None:
    """What is encoded as a record of `retry-dlq` is decoded as it was, with what it holds."""
    assert CODEC.dead_letter(CODEC.encode_dead_letter(letter)) == letter


@given(SUBSCRIPTIONS)
def test_a_subscription_comes_back(subscription: Subscription) -> None:
    """What is encoded as a record of `subscriptions` is decoded as it was."""
    assert CODEC.decode_subscription(CODEC.encode_subscription(subscription)) == subscription


@given(TENANTS)
def test_a_tenant_comes_back(tenant: Tenant) -> None:
    """What is encoded as a record of `tenants` is decoded as it was."""
    assert CODEC.decode_tenant(CODEC.encode_tenant(tenant)) == tenant


@given(STATES)
def test_an_endpoint_s_state_comes_back(state: EndpointState) -> None:
    """What is encoded as a record of `endpoint-state` is decoded as it was."""
    assert CODEC.decode_endpoint_state(CODEC.encode_endpoint_state(state)) == state


def test_records_from_before_projection_and_validation() -> None:
    """What was written without these fields is read: no projection, and nothing is validated."""
    webhook = Subscription("acme", "wh_1", "https://example.com/", ("*",), Auth("none"), filter="data.a")
    tenant = Tenant("acme", "Acme", "standard")
    for name, record, field in (("subscription", webhook, "projection"), ("tenant", tenant, "validation")):
        older = load(name)
        older = {**older, "fields": [one for one in older["fields"] if one["name"] != field]}
        plain = getattr(records, f"from_{name}")(record)
        assert getattr(knowing(older), f"decode_{name}")(written(older, plain)) == record


def test_a_state_from_before_warnings_were_counted() -> None:
    """A record that was written without `warned_h` is read: no warning has been given."""
    state = EndpointState("acme", "wh_1", 2, failures=3, time_ms=NOW_MS)
    older = load("endpoint_state")
    older = {**older, "fields": [one for one in older["fields"] if one["name"] != "warned_h"]}
    value = written(older, records.from_endpoint_state(state))
    assert knowing(older).decode_endpoint_state(value) == state


def test_the_head_is_the_wire_format_s() -> None:
    """A byte 0, then the schema's id in four bytes, big endian."""
    assert CODEC.encode_event(EVENT)[:5] == HEADS["event"] == b"\x00\x00\x00\x00\x01"


@pytest.mark.parametrize(
    "value", [None, b"", b"\x00", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x01", b"{}", b"\x01" * 9]
)
def test_what_is_not_framed(value: bytes | None) -> None:
    """Without the five bytes at its beginning a record is unreadable for its framing."""
    assert reason(lambda: CODEC.event(read(value))) == "framing"
    assert reason(lambda: CODEC.event(read(value, CLOUD))) == "framing"


def test_an_unknown_id() -> None:
    """An id that has not been learned is unreadable for its schema."""
    assert reason(lambda: CODEC.event(read(AVRO + b"x"))) == "unknown_schema"
    assert reason(lambda: CODEC.delivery(AVRO)) == "unknown_schema"


@given(st.data())
def test_a_record_that_is_cut(data: st.DataObject) -> None:
    """A record that ends anywhere before its end cannot be read."""
    whole = CODEC.encode_delivery(DELIVERY)
    cut = data.draw(st.integers(5, len(whole) - 1))
    assert reason(lambda: CODEC.delivery(whole[:cut])) == "undecodable"


def test_bytes_after_the_record() -> None:
    """A record that goes on after its end cannot be read: it is another one."""
    assert reason(lambda: CODEC.event(read(CODEC.encode_event(EVENT) + b"\x00"))) == "undecodable"
    assert reason(lambda: knowing("int").event(read(AVRO + b"\x02\x00", CLOUD))) == "undecodable"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever follows the head, the answer is a record or `Undecodable`, never another fault."""
    for decode in (CODEC.delivery, CODEC.attempt, CODEC.dead_letter, CODEC.decode_subscription, CODEC.decode_tenant):
        for head in HEADS.values():
            with suppress(Undecodable):
                decode(head + body)
    with suppress(Undecodable):
        CODEC.event(read(HEADS["event"] + body))


def test_a_record_of_another_type() -> None:
    """A record whose schema is known, but is not of this topic's type, cannot be read."""
    codec = knowing(load("tenant"))
    tenant = AVRO + CODEC.encode_tenant(Tenant("acme", "Acme", "standard"))[5:]
    assert codec.decode_tenant(tenant).id == "acme"
    assert reason(lambda: codec.event(read(tenant))) == "undecodable"
    assert reason(lambda: codec.delivery(tenant)) == "undecodable"
    assert reason(lambda: knowing("string").event(read(written("string", "text")))) == "undecodable"


def test_an_older_writer() -> None:
    """A record whose writer did not know our optional fields is read with their defaults."""
    older = copy.deepcopy(load("event"))
    older["fields"] = [field for field in older["fields"] if field["name"] not in {"actor", "subject", "source"}]
    value = written(older, {"id": "e", "tenant": "t", "type": "x", "time": 5, "data": "{}"})
    assert knowing(older).event(read(value)) == Event("e", "t", "x", 5, "{}")


def test_a_newer_writer() -> None:
    """Fields that a newer writer has added, wherever they stand, are skipped."""
    newer = copy.deepcopy(load("event"))
    newer["fields"].insert(1, {"name": "trace", "type": ["null", "string"], "default": None})
    newer["fields"].append({"name": "tags", "type": {"type": "array", "items": "string"}, "default": []})
    plain = {"id": "e", "tenant": "t", "type": "x", "time": 5, "data": "{}", "actor": "ann", "subject": None}
    value = written(newer, {**plain, "source": "s", "trace": "abc", "tags": ["a"]})
    assert knowing(newer).event(read(value)) == Event("e", "t", "x", 5, "{}", "ann", None, "s")


def test_a_word_that_this_version_does_not_know() -> None:
    """A verdict of a newer version cannot be read, and is not taken for another."""
    newer = copy.deepcopy(load("attempt"))
    verdict = next(field["type"] for field in newer["fields"] if field["name"] == "verdict")
    verdict["symbols"] = ["unheard", *verdict["symbols"]]
    decoded = fastavro.schemaless_reader(
        io.BytesIO(CODEC.encode_attempt(_attempt())[5:]), fastavro.parse_schema(load("attempt")), None
    )
    value = written(newer, {**cast("Any", decoded), "verdict": "unheard"})
    assert reason(lambda: knowing(newer).attempt(value)) == "undecodable"
    assert knowing(newer).attempt(written(newer, decoded)).verdict is Verdict.DELIVERED


def _attempt() -> Attempt:
    words = ("msg_1", "", 0, "evt-1", "acme", "wh_1", "order.paid", 1, NOW_MS, 12, Verdict.DELIVERED, 200)
    return Attempt(*words, (), (), b"", Done(), Answers(3, 5))


def test_our_times_stay_numbers() -> None:
    """An envelope's time is read as the number that was written, also one that is no date."""
    event = Event("e", "t", "x", 2**62, "{}")
    assert CODEC.event(read(CODEC.encode_event(event))).time_ms == 2**62
    assert knowing(load("event")).event(read(AVRO + CODEC.encode_event(event)[5:])).time_ms == 2**62


def test_a_foreign_record_is_data() -> None:
    """With CloudEvents headers any Avro record is the event's data, its logical types in words."""
    day = {"type": "int", "logicalType": "date"}
    schema = {"type": "record", "name": "Paid", "fields": [{"name": "on", "type": day}]}
    event = knowing(schema).event(read(written(schema, {"on": 20454}), CLOUD))
    assert event.data == '{"on":"2026-01-01"}'
    assert (event.tenant, event.time_ms) == ("x", NOW_MS)


def test_a_logical_value_that_is_none() -> None:
    """A date beyond all dates cannot be read, and is no fault of ours."""
    schema = {"type": "long", "logicalType": "timestamp-millis"}
    assert reason(lambda: knowing(schema).event(read(written("long", 2**62), CLOUD))) == "undecodable"


def test_a_schema_may_refer_to_others() -> None:
    """A record whose schema is made of others is read with them."""
    money = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}
    order = {"type": "record", "name": "Order", "fields": [{"name": "sum", "type": "Money"}]}
    event = knowing(money, order).event(read(AVRO + b"\x0a", CLOUD))
    assert event.data == '{"sum":{"cents":5}}'


@pytest.mark.parametrize("around", ["items", "values", "union"])
def test_a_value_may_be_nested_in_its_own_kind(around: str) -> None:
    """A record that holds records of its own type is read."""
    inside: Any = {"items": {"type": "array", "items": "a.N"}, "values": {"type": "map", "values": "N"}}.get(around)
    schema = {
        "type": "record",
        "name": "N",
        "namespace": "a",
        "fields": [{"name": "n", "type": inside or ["null", "N"]}],
    }
    values: dict[str, Any] = {
        "items": {"n": [{"n": []}]},
        "values": {"n": {"k": {"n": {}}}},
        "union": {"n": {"n": None}},
    }
    event = knowing(schema).event(read(written(schema, values[around]), CLOUD))
    assert json.loads(event.data) == values[around]


@pytest.mark.parametrize("headers", [CLOUD, ()])
def test_a_value_that_is_nested_too_deep(headers: tuple[tuple[str, bytes], ...]) -> None:
    """A value nested a million deep is unreadable; it does not end the process."""
    assert reason(lambda: knowing(TREE).event(read(AVRO + b"\x02" * 1_000_000, headers))) == "undecodable"


def test_a_schema_that_cannot_be_read_by() -> None:
    """A schema that lacks a part of its own is as one that is not there."""
    assert parsed([{"type": "record", "name": "R", "fields": [{"name": "f", "type": "Missing"}]}]) is None
    assert parsed([{"type": "record"}]) is None


@pytest.fixture
async def codec(cluster: LiveCluster) -> AsyncIterator[Codec]:
    async with codec_of(prepared(cluster)) as opened:
        yield opened


def register(codec: Codec, subject: str, schema: Any) -> bytes:
    """The head of records of a schema that somebody else registers."""
    return b"\x00" + codec.client.register_schema(subject, Schema(json.dumps(schema), "AVRO")).to_bytes(4, "big")


async def test_schemas_are_learned(codec: Codec) -> None:
    """Once the ids of a batch are learned, records of older, newer and foreign writers are read."""
    newer = copy.deepcopy(load("event"))
    newer["fields"].append({"name": "trace", "type": "string", "default": ""})
    day = {"type": "record", "name": "Day", "fields": [{"name": "on", "type": {"type": "int", "logicalType": "date"}}]}
    plain = {"id": "e", "tenant": "t", "type": "x", "time": 5, "data": "{}", "actor": None, "subject": None}
    enveloped = written(newer, {**plain, "source": None, "trace": "abc"}, register(codec, "newer-value", newer))
    foreign = written(day, {"on": 20454}, register(codec, "day-value", day))
    own = codec.encode_event(EVENT)
    await codec.learn([enveloped, None, b"", b"\x00\x00", foreign, own])
    assert codec.event(read(own)) == EVENT
    assert codec.event(read(enveloped)) == Event("e", "t", "x", 5, "{}")
    assert codec.event(read(foreign, CLOUD)).data == '{"on":"2026-01-01"}'


async def test_an_id_that_nobody_knows_is_asked_for_once(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown id is unreadable, and is not asked for again with every batch."""
    asked: list[int] = []
    ask = schemas.written

    def counted(client: SchemaRegistryClient, number: int) -> list[Any] | None:
        asked.append(number)
        return ask(client, number)

    monkeypatch.setattr(schemas, "written", counted)
    value = b"\x00\x7f\xff\xff\xff" + b"x"
    for _ in range(3):
        await codec.learn([value])
        assert reason(lambda: codec.event(read(value))) == "unknown_schema"
    assert asked == [0x7FFFFFFF]
    codec.unknown[0x7FFFFFFF] -= 11
    await codec.learn([value])
    assert len(asked) == 2


async def test_a_schema_with_references_is_learned(codec: Codec) -> None:
    """A foreign record whose schema refers to another subject is read."""
    cents = {"type": "record", "name": "Cents", "fields": [{"name": "n", "type": "long"}]}
    bill = {"type": "record", "name": "Bill", "fields": [{"name": "sum", "type": "Cents"}]}
    codec.client.register_schema("cents-value", Schema(json.dumps(cents), "AVRO"))
    reference = {"name": "Cents", "subject": "cents-value", "version": 1}
    schema = Schema.from_dict({"schema": json.dumps(bill), "schemaType": "AVRO", "references": [reference]})
    head = b"\x00" + codec.client.register_schema("bill-value", schema).to_bytes(4, "big")
    await codec.learn([head + b"\x0a"])
    assert codec.event(read(head + b"\x0a", CLOUD)).data == '{"sum":{"n":5}}'


async def test_a_registry_that_is_down_is_told() -> None:
    """While the registry does not answer, nothing is decided about an id: the caller waits and asks again."""
    settings = Settings(schema_registry="http://127.0.0.1:1")
    with schemas.registry(settings) as client:
        codec = Codec(client, HEADS)
        with pytest.raises(Unreachable):
            await codec.learn([AVRO])
        assert not codec.unknown


async def test_opening_without_a_registry_is_told() -> None:
    """A codec cannot be opened while the registry is away."""
    with pytest.raises(Unreachable):
        await Codec.open(Settings(schema_registry="http://127.0.0.1:1"))
