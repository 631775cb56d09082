"""Events of services that know nothing of this project but topic, registry and schema."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import json
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.flow import Flow, Hook
from tests.e2e.producers.stock import Service, service
from tests.node_packages import Missing, node, node_modules

pytestmark = pytest.mark.kafka

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENT: dict[str, Any] = json.loads((SCHEMAS / "event.avsc").read_text(encoding="utf-8"))
NODE_PACKAGES = ("kafkajs@2.2.4", "@kafkajs/confluent-schema-registry@3.9.0")
ORDER = {
    "type": "record",
    "name": "OrderPlaced",
    "namespace": "shop",
    "fields": [
        {"name": "order", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {
            "name": "gift",
            "type": ["null", {"type": "record", "name": "Gift", "fields": [{"name": "to", "type": "string"}]}],
        },
        {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["OPEN", "PAID"]}},
        {"name": "photo", "type": "bytes"},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 4}},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "due", "type": {"type": "int", "logicalType": "date"}},
        {"name": "lines", "type": {"type": "array", "items": ["long", "string"]}},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    ],
}
UNKNOWN = struct.pack(">bI", 0, 2_000_000_000)
PLACED = dt.datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def shop(flow: Flow) -> Iterator[Service]:
    with service(flow.settings.bootstrap_servers, flow.settings.schema_registry) as started:
        yield started


def _event(hook: Hook, event_id: str, **more: object) -> dict[str, Any]:
    own = {"id": event_id, "tenant": hook.tenant.id, "type": "order.shipped", "time": PLACED, "data": '{"order":1}'}
    return {**own, "actor": None, "subject": None, "source": None, **more}


def _data(body: bytes) -> Any:
    return orjson.loads(body)["data"]


def test_the_stock_avro_serializer(flow: Flow, shop: Service) -> None:
    """confluent_kafka's AvroSerializer, registering the schema by itself, is understood as it is."""
    hook = flow.hook()
    shop.produce(shop.encode(EVENT, _event(hook, "stock-1")), key=hook.tenant.id)
    (got,) = flow.accepted(hook)
    assert orjson.loads(got.body) == {
        "type": "order.shipped",
        "timestamp": "2026-03-04T05:06:07.890Z",
        "data": {"order": 1},
    }


def test_a_node_client(flow: Flow) -> None:
    """What kafkajs sends with its registry client arrives: every event once, its text unharmed."""
    hook = flow.hook()
    _run_node({"TENANT": hook.tenant.id, "COUNT": "5"}, flow)
    got = flow.accepted(hook, 5)
    assert sorted(_data(one.body)["order"] for one in got) == [1, 2, 3, 4, 5]
    assert {_data(one.body)["note"] for one in got} == {"Grüße"}


def _run_node(variables: dict[str, str], flow: Flow) -> None:
    try:
        program, modules = node(), node_modules(*NODE_PACKAGES)
    except Missing as missing:
        pytest.skip(f"the Node client: {missing}")
    folder = flow.settings.data_dir / "node"
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(modules)
    script = folder / "kafkajs.mjs"
    script.write_bytes((Path(__file__).parent / "producers" / "kafkajs.mjs").read_bytes())
    places = {"BOOTSTRAP": flow.settings.bootstrap_servers, "REGISTRY": flow.settings.schema_registry}
    environment = {"PATH": os.environ["PATH"], **places, **variables}
    done = subprocess.run([program, script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cloud_event_with_typed_avro(flow: Flow, shop: Service) -> None:
    """Headers and any registered record: bare unions, enums and decimals as text, base64, ISO 8601."""
    hook = flow.hook()
    order = {
        "order": 9_007_199_254_740_993,
        "note": None,
        "gift": {"to": "Zoë"},
        "status": "PAID",
        "photo": b"\x00\xff",
        "digest": b"\xde\xad\xbe\xef",
        "total": decimal.Decimal("12.50"),
        "placed": PLACED,
        "seen": PLACED.replace(microsecond=123_456),
        "due": dt.date(2026, 3, 5),
        "lines": [7, "seven"],
        "labels": {"a": "b"},
    }
    attributes = {
        "specversion": "1.0",
        "id": "ce-1",
        "type": "order.placed",
        "source": "/shop",
        "tenant": hook.tenant.id,
    }
    headers = {
        f"ce_{name}": text.encode() for name, text in {**attributes, "time": "2026-03-04T06:06:07.89+01:00"}.items()
    }
    shop.produce(shop.encode(ORDER, order, by_record=True), headers)
    (got,) = flow.accepted(hook)
    assert orjson.loads(got.body) == {
        "type": "order.placed",
        "timestamp": "2026-03-04T05:06:07.890Z",
        "data": {
            "order": 9_007_199_254_740_993,
            "note": None,
            "gift": {"to": "Zoë"},
            "status": "PAID",
            "photo": "AP8=",
            "digest": "3q2+7w==",
            "total": "12.50",
            "placed": "2026-03-04T05:06:07.890000Z",
            "seen": "2026-03-04T05:06:07.123456Z",
            "due": "2026-03-05",
            "lines": [7, "seven"],
            "labels": {"a": "b"},
        },
    }


def test_an_older_and_a_newer_event_schema(flow: Flow, shop: Service) -> None:
    """One field fewer takes our default, one more with a default is passed over: both kinds of producers deliver."""
    older, newer = copy.deepcopy(EVENT), copy.deepcopy(EVENT)
    older["fields"] = [field for field in EVENT["fields"] if field["name"] != "source"]
    newer["fields"] = [*EVENT["fields"], {"name": "trace", "type": ["null", "string"], "default": None}]
    hook = flow.hook()
    shop.produce(shop.encode(older, _event(hook, "older")))
    shop.produce(shop.encode(newer, _event(hook, "newer", trace="00-4bf9")))
    assert len(flow.accepted(hook, 2)) == 2
    assert {one["event"] for one in flow.attempts_of(hook, 2)} == {"older", "newer"}


def test_an_aborted_transaction_never_arrives(flow: Flow, shop: Service) -> None:
    """What is committed arrives, what is aborted does not: the next event of the partition proves it."""
    hook = flow.hook()
    with service(
        flow.settings.bootstrap_servers, flow.settings.schema_registry, **{"transactional.id": "shop"}
    ) as shopping:
        producer = shopping.producer
        producer.init_transactions(30)
        for name, end in (("kept", producer.commit_transaction), ("undone", producer.abort_transaction)):
            producer.begin_transaction()
            for number in range(3):
                shopping.produce(shopping.encode(EVENT, _event(hook, f"{name}-{number}")), partition=0)
            end(30)
    shop.produce(shop.encode(EVENT, _event(hook, "after")), partition=0)
    deliveries = flow.deliveries.until(lambda one: one["tenant"] == hook.tenant.id, 4)
    assert [one["event"] for one in deliveries] == ["kept-0", "kept-1", "kept-2", "after"]
    assert len(flow.accepted(hook, 4)) == 4


def _another_record(shop: Service, _good: bytes) -> bytes:
    schema = {"type": "record", "name": "Other", "namespace": "shop", "fields": [{"name": "number", "type": "int"}]}
    return shop.encode(schema, {"number": 1}, by_record=True)


POISON: dict[str, tuple[str, str, Callable[[Service, bytes], bytes | None]]] = {
    "bad magic byte": ("framing", "wire format", lambda _, good: b"\x01" + good[1:]),
    "plain JSON": ("framing", "wire format", lambda _, __: b'{"id":"e-1"}'),
    "empty": ("framing", "empty", lambda _, __: b""),
    "no value": ("framing", "empty", lambda _, __: None),
    "unknown schema id": (
        "unknown_schema",
        "2000000000",
        lambda _, good: struct.pack(">bI", 0, 2_000_000_000) + good[5:],
    ),
    "truncated": ("undecodable", "", lambda _, good: good[:-9]),
    "bytes after its end": ("undecodable", "1 bytes follow", lambda _, good: good + b"\x00"),
    "another record": ("undecodable", "", _another_record),
}


@pytest.mark.parametrize("kind", POISON)
def test_what_cannot_be_read_is_set_aside(flow: Flow, shop: Service, kind: str) -> None:
    """It becomes a dead letter that says where it lay, why, and what it was; the next event arrives."""
    reason, words, spoil = POISON[kind]
    hook = flow.hook()
    value = spoil(shop, shop.encode(EVENT, _event(hook, "spoilt")))
    partition, offset = shop.produce(value, {"trace": b"\xff"}, key="k", partition=1)
    shop.produce(shop.encode(EVENT, _event(hook, "next")), partition=1)
    letter = flow.dead_letter_at(partition, offset)
    assert (letter["topic"], letter["partition"], letter["offset"], letter["reason"]) == ("events", 1, offset, reason)
    assert words in letter["detail"]
    assert (letter["key"], letter["value"] or b"") == (b"k", value or b"")
    assert letter["headers"] == [{"name": "trace", "value": b"\xff"}]
    flow.accepted(hook)
    assert [one["event"] for one in flow.attempts_of(hook)] == ["next"]


INVALID: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unknown tenant": ("unknown_tenant", "nobody", {"tenant": "nobody"}),
    "tenant that is no id": ("invalid", "tenant", {"tenant": "a/b"}),
    "unknown type": ("unknown_type", "not a type", {"type": "not a type"}),
    "id too long": ("invalid", "id", {"id": "x" * 129}),
    "data that is not JSON": ("invalid", "data", {"data": "{"}),
    "time before 1970": ("invalid", "time", {"time": -1}),
}


@pytest.mark.parametrize("kind", INVALID)
def test_what_breaks_a_rule_is_set_aside(flow: Flow, shop: Service, kind: str) -> None:
    """An event that can be read but not be sent is a dead letter whose detail names the field."""
    reason, words, change = INVALID[kind]
    event = {**_event(flow.hook(), f"e-{time.time_ns()}"), **change}
    letter = flow.dead_letter_at(*shop.produce(shop.encode(EVENT, event)))
    assert letter["reason"] == reason
    assert words in letter["detail"]


def test_a_cloud_event_without_its_tenant_is_set_aside(flow: Flow, shop: Service) -> None:
    """The dead letter names the attribute that is missing."""
    headers = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_type": b"order.placed", "ce_source": b"/shop"}
    letter = flow.dead_letter_at(*shop.produce(shop.encode(EVENT, _event(flow.hook(), "e-1")), headers))
    assert (letter["reason"], letter["detail"]) == ("invalid", "CloudEvents attribute ce_tenant is missing")
