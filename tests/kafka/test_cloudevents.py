from __future__ import annotations

import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from pipeline.errors import Undecodable
from pipeline.kafka.cloudevents import event_of, is_cloud_event, plain_json
from pipeline.ports import Record

APPENDED_MS = 1_767_225_600_000
ATTRIBUTES = {
    "ce_specversion": "1.0",
    "ce_id": "evt-1",
    "ce_type": "order.paid",
    "ce_source": "/shop",
    "ce_tenant": "acme",
}
LOGICAL = {
    "date": ("int", dt.date(2026, 1, 1), "2026-01-01"),
    "time-millis": ("int", dt.time(1, 2, 3, 4_000), "01:02:03.004000"),
    "time-micros": ("long", dt.time(1, 2, 3, 4), "01:02:03.000004"),
    "timestamp-millis": ("long", dt.datetime(2026, 1, 1, 0, 0, 0, 5_000, dt.UTC), "2026-01-01T00:00:00.005000Z"),
    "timestamp-micros": ("long", dt.datetime(2026, 1, 1, 0, 0, 0, 5, dt.UTC), "2026-01-01T00:00:00.000005Z"),
    "local-timestamp-millis": ("long", dt.datetime(2026, 1, 1, 12), "2026-01-01T12:00:00"),  # noqa: DTZ001 - local
    "uuid": ("string", uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
}


def read(value: bytes | None = b"", **attributes: str | None) -> Record:
    """A record with these attributes besides the required ones; None takes one away."""
    held = {**ATTRIBUTES, **attributes}
    headers = tuple((name, text.encode()) for name, text in held.items() if text is not None)
    return Record("events", 0, 0, None, value, headers, APPENDED_MS)


def through(schema: Any, value: Any) -> Any:
    """The value as a consumer decodes it, then as plain JSON, then as anyone reads that."""
    parsed, out = fastavro.parse_schema(schema), io.BytesIO()
    fastavro.schemaless_writer(out, parsed, value)
    out.seek(0)
    return json.loads(plain_json(fastavro.schemaless_reader(out, parsed, None)))


@pytest.mark.parametrize(
    ("schema", "value", "plain"),
    [
        ("null", None, None),
        ("boolean", True, True),
        ("int", -5, -5),
        ("long", 2**63 - 1, 2**63 - 1),
        ("float", 1.5, 1.5),
        ("double", 0.1, 0.1),
        ("string", "é\u2028\U0001f600", "é\u2028\U0001f600"),
        ("bytes", b"\x00\xff", "AP8="),
        ({"type": "fixed", "name": "F", "size": 2}, b"\x01\x02", "AQI="),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "bytes"}, {"k": b"x"}, {"k": "eA=="}),
        (["null", "string"], None, None),
        (["null", "string"], "bare", "bare"),
    ],
)
def test_every_type_has_plain_json(schema: Any, value: Any, plain: Any) -> None:
    """Unions are the bare value, enums their symbol, bytes and fixed base64; everything else as JSON has it."""
    assert through(schema, value) == plain


@pytest.mark.parametrize("logical", LOGICAL)
def test_every_logical_type_has_plain_json(logical: str) -> None:
    """Dates and times are ISO 8601, in UTC with a Z where they have a zone; a UUID is its text."""
    physical, value, plain = LOGICAL[logical]
    assert through({"type": physical, "logicalType": logical}, value) == plain


@pytest.mark.parametrize("number", ["12.30", "-0.01", "0.00", "98765432109876543210.99"])
def test_a_decimal_is_its_digits(number: str) -> None:
    """A decimal is a string with all of its digits, never a float or an exponent."""
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}
    assert through(schema, Decimal(number)) == number


def test_a_record_is_an_object_in_the_schema_s_order() -> None:
    """Fields come in the order of the schema, records in records as objects, unions of records as the bare record."""
    inner = {"type": "record", "name": "Line", "fields": [{"name": "price", "type": "double"}]}
    fields = [{"name": "z", "type": "int"}, {"name": "a", "type": ["null", inner]}]
    parsed, out = fastavro.parse_schema({"type": "record", "name": "Order", "fields": fields}), io.BytesIO()
    fastavro.schemaless_writer(out, parsed, {"a": {"price": 2.5}, "z": 1})
    out.seek(0)
    assert plain_json(fastavro.schemaless_reader(out, parsed, None)) == '{"z":1,"a":{"price":2.5}}'


def test_what_has_no_json_is_undecodable() -> None:
    """A value that JSON cannot hold is told as such, not raised as a fault."""
    nested: list[Any] = []
    for _ in range(2_000):
        nested = [nested]
    with pytest.raises(Undecodable, match="no plain JSON"):
        plain_json(nested)


def test_the_mark_is_a_header() -> None:
    """A record is a CloudEvent if it has a `ce_specversion` header."""
    assert is_cloud_event(read())
    assert not is_cloud_event(read(ce_specversion=None))


def test_attributes_become_the_event() -> None:
    """Each attribute has its field; the value becomes `data`."""
    event = event_of(read(ce_time="2026-01-01T00:00:00.5Z", ce_subject="order-7", ce_actor="ann"), {"n": 1})
    assert (event.id, event.type, event.source, event.tenant) == ("evt-1", "order.paid", "/shop", "acme")
    assert (event.time_ms, event.subject, event.actor) == (1_767_225_600_500, "order-7", "ann")
    assert event.data == '{"n":1}'


def test_what_is_not_said_is_none() -> None:
    """Without `ce_time` the record's own timestamp counts; subject and actor may be missing."""
    event = event_of(read(), {})
    assert (event.time_ms, event.subject, event.actor) == (APPENDED_MS, None, None)


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "ce_tenant"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_attribute_is_named(name: str, value: str | None) -> None:
    """An attribute that is required and missing or empty makes the event invalid."""
    with pytest.raises(Undecodable, match=name) as caught:
        event_of(read(b"", **{name: value}), {})
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600_123),
        ("2026-01-01t00:00:00z", 1_767_225_600_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_a_time_is_rfc_3339(text: str, time_ms: int) -> None:
    """Any zone and any number of decimals are read, to the millisecond."""
    assert event_of(read(ce_time=text), {}).time_ms == time_ms


@pytest.mark.parametrize("text", ["", "now", "2026-01-01T00:00:00", "2026-01-01", "1767225600", "2026-13-01T00:00:00Z"])
def test_another_time_is_invalid(text: str) -> None:
    """A time that is none, or has no zone, makes the event invalid."""
    with pytest.raises(Undecodable, match="ce_time") as caught:
        event_of(read(ce_time=text), {})
    assert caught.value.reason == "invalid"


def test_an_attribute_that_is_no_text_is_invalid() -> None:
    """Attributes are UTF-8."""
    record = Record("events", 0, 0, None, b"", (("ce_specversion", b"1.0"), ("ce_id", b"\xff")), 0)
    with pytest.raises(Undecodable, match="not UTF-8") as caught:
        event_of(record, {})
    assert caught.value.reason == "invalid"
