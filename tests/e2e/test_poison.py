"""Bad records on every topic that the stages consume, through the whole flow: each ends as one dead letter.

Nothing else may happen: the good record that lies behind it in the same partition arrives, and no stage ends.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema

from pipeline.flow.deliver import Delivery, Origin
from pipeline.flow.event import Event
from pipeline.http.receiver import Script
from pipeline.kafka import topics
from tests.e2e.flow import Flow, Hook

MIB = 1024 * 1024
NOW_MS = 1_767_225_600_000
LIMIT = 4 * MIB - 512
Headers = tuple[tuple[str, bytes], ...]
CLOUD: Headers = (
    ("ce_specversion", b"1.0"),
    *((f"ce_{name}", b"poison") for name in ("id", "type", "source")),
    ("ce_tenant", b"nobody-at-all"),
)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record, and the reason that its dead letter gives."""

    reason: str
    value: bytes | None
    headers: Headers = ()
    key: bytes | None = None
    compression: str = "none"


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What poison is made of: the heads of schemas that are registered, and good records."""

    flow: Flow
    event: bytes
    delivery: bytes
    nulls: bytes
    numbers: bytes
    texts: bytes
    tree: bytes

    def delivered(self, **more: Any) -> bytes:
        """A delivery with other fields."""
        return self.flow.codec.encode_delivery(replace(DELIVERY, **more))


DELIVERY = Delivery("msg_poison", "nobody", "wh_1", "e", "a.b", None, NOW_MS, b"{}", 1, Origin(topics.EVENTS, 0, 0, 0))
EVENT = Event("e", "nobody-at-all", "a.b", NOW_MS, "{}")
Cook = Callable[[Kitchen], Poison]


def _with_header(name: str, value: bytes) -> Cook:
    return lambda kitchen: Poison("framing", kitchen.delivery, ((name, value),))


UNFRAMED: dict[str, Cook] = {
    "empty": lambda _: Poison("framing", b""),
    "a tombstone": lambda _: Poison("framing", None),
    "JSON": lambda _: Poison("framing", b'{"id": "e"}'),
    "a head that is cut": lambda _: Poison("framing", b"\0\0\0"),
    "an unknown id": lambda _: Poison("unknown_schema", b"\0\x7f\xff\xff\xff" + b"x"),
    "a negative id": lambda _: Poison("unknown_schema", b"\0\xff\xff\xff\xff" + b"x"),
    "a megabyte of zeros": lambda _: Poison("unknown_schema", bytes(MIB - 200)),
}
BOTH: dict[str, Cook] = UNFRAMED | {
    "another type": lambda k: Poison("undecodable", k.numbers + b"\x02"),
    "an endless list": lambda k: Poison("too_large", k.nulls + b"\x80\x80\x80\x80\x80\x80\x20"),
    "a tree a hundred thousand deep": lambda k: Poison("undecodable", k.tree + b"\x02" * 100_000),
    "48 megabytes of text, compressed": lambda k: Poison(
        "too_large", k.texts + b"\x80\x80\x80\x30" + bytes(48 * MIB), compression="zstd"
    ),
}
EVENTS: dict[str, Cook] = BOTH | {
    "bad magic": lambda k: Poison("framing", b"\x01" + k.event[1:]),
    "truncated": lambda k: Poison("undecodable", k.event[:-2]),
    "bytes behind it": lambda k: Poison("undecodable", k.event + b"x"),
    "a delivery": lambda k: Poison("undecodable", k.delivery),
    "nobody's": lambda k: Poison("unknown_tenant", k.event),
    "no id": lambda k: Poison("invalid", k.flow.codec.encode_event(replace(EVENT, id=""))),
    "a type without end": lambda k: Poison("invalid", k.flow.codec.encode_event(replace(EVENT, type="x" * 900_000))),
    "a tenant that is none": lambda k: Poison("invalid", k.flow.codec.encode_event(replace(EVENT, tenant="a b"))),
    "a million headers": lambda k: Poison("unknown_tenant", k.event, (("h", b""),) * 50_000),
    "large headers": lambda k: Poison("unknown_tenant", k.event, (("ü" * 1_000, b"\xff" * 900_000),)),
    "a large key": lambda k: Poison("unknown_tenant", k.event, key=b"\xfe" * 900_000),
}
CLOUDS: dict[str, Cook] = BOTH | {
    "another type": lambda k: Poison("unknown_tenant", k.numbers + b"\x02"),
    "attributes that are not UTF-8": lambda k: Poison("invalid", k.numbers + b"\x02", (*CLOUD, ("ce_id", b"\xff"))),
    "no attributes": lambda k: Poison("invalid", k.numbers + b"\x02", CLOUD[:1]),
    "a time that is none": lambda k: Poison("invalid", k.numbers + b"\x02", (*CLOUD, ("ce_time", b"soon"))),
    "a time at the end of times": lambda k: Poison(
        "unknown_tenant", k.numbers + b"\x02", (*CLOUD, ("ce_time", b"0001-01-01T00:00:00+23:59"))
    ),
    "an id without end": lambda k: Poison("invalid", k.numbers + b"\x02", (*CLOUD, ("ce_id", b"x" * 900_000))),
}
DELIVERIES: dict[str, Cook] = BOTH | {
    "bad magic": lambda k: Poison("framing", b"\x01" + k.delivery[1:]),
    "truncated": lambda k: Poison("undecodable", k.delivery[:-2]),
    "an event": lambda k: Poison("undecodable", k.event),
    "attempt 0": lambda k: Poison("invalid", k.delivered(attempt=0)),
    "attempt -1": lambda k: Poison("invalid", k.delivered(attempt=-1)),
    "an id with a line's end": lambda k: Poison("invalid", k.delivered(id="msg_1\r\nx-evil: 1")),
    "a webhook that is none": lambda k: Poison("invalid", k.delivered(webhook="../x")),
    "an event id without end": lambda k: Poison("invalid", k.delivered(event="x" * 3_900_000)),
    "a type without end": lambda k: Poison("invalid", k.delivered(type="x" * 3_900_000)),
    "a key without end": lambda k: Poison("framing", k.delivery, key=b"x" * MIB),
    "a large body, compressed": lambda k: Poison("too_large", k.delivered(body=bytes(16 * MIB)), compression="zstd"),
    **{
        f"header {name}: {value[:12]!r}": _with_header(name, value)
        for name, value in (
            *(("hop", value) for value in (b"-1", b"9" * 100, b"", b"\xff", b"1e3")),
            *(("wait-ms", value) for value in (b"-5000", b"9" * 30, b"soon")),
            *(("slot-ms", value) for value in (b"-1", b"9" * 30)),
            *(("round", value) for value in (b"\xff\xfe", b"r" * 100_000)),
        )
    },
}


@pytest.fixture(scope="module")
def kitchen(flow: Flow) -> Kitchen:
    def head(subject: str, schema: Any) -> bytes:
        number = flow.codec.client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        return struct.pack(">bI", 0, number)

    tree = {"type": "record", "name": "Tree", "fields": [{"name": "f", "type": {"type": "array", "items": "Tree"}}]}
    return Kitchen(
        flow,
        flow.codec.encode_event(EVENT),
        flow.codec.encode_delivery(DELIVERY),
        head("poison-nulls", {"type": "array", "items": "null"}),
        head("poison-numbers", "long"),
        head("poison-texts", "string"),
        head("poison-tree", tree),
    )


@pytest.fixture(scope="module")
def hook(flow: Flow) -> Hook:
    return flow.hook()


def written(flow: Flow, topic: str, record: Poison) -> tuple[str, int, int]:
    """The record in partition 0 of a topic, as any producer may write it; where it lies."""
    producer, told = (
        Producer(
            {
                "bootstrap.servers": flow.settings.bootstrap_servers,
                "message.max.bytes": 200 * MIB,
                "queue.buffering.max.kbytes": 1024 * 1024,
                "compression.type": record.compression,
            }
        ),
        list[Any](),
    )
    producer.produce(
        topic, record.value, record.key, 0, headers=list(record.headers), on_delivery=lambda *what: told.append(what)
    )
    assert producer.flush(30) == 0
    ((error, message),) = told
    assert error is None, error
    return topic, 0, message.offset()


def served(kitchen: Kitchen, hook: Hook, topic: str, menu: dict[str, Cook], more: Headers = ()) -> None:
    """Every poison into one partition of the topic, a good event behind them: a dead letter each, and it arrives."""
    flow, dishes = kitchen.flow, {name: cook(kitchen) for name, cook in menu.items()}
    places = {}
    for name, dish in dishes.items():
        headers = dish.headers or more
        key = dish.key if dish.key is not None else b"nobody/wh_1"
        places[written(flow, topic, replace(dish, key=key, headers=headers))] = name
    letters = flow.dead.until(
        lambda letter: (letter["topic"], letter["partition"], letter["offset"]) in places, len(places)
    )
    found = [(places[letter["topic"], letter["partition"], letter["offset"]], letter["reason"]) for letter in letters]
    assert sorted(found) == sorted((name, dish.reason) for name, dish in dishes.items())
    _still_flows(flow, hook, topic)


def _still_flows(flow: Flow, hook: Hook, topic: str) -> None:
    """A good record behind the poison, in the same partition, is delivered."""
    event = Event(f"good-{secrets.token_hex(6)}", hook.tenant.id, "order.paid", NOW_MS, "{}")
    if topic == topics.EVENTS:
        written(flow, topic, Poison("", flow.codec.encode_event(event)))
    else:
        number = f"msg_{secrets.token_hex(8)}"
        good = replace(DELIVERY, id=number, tenant=hook.tenant.id, webhook=hook.subscription.webhook, event=event.id)
        written(flow, topic, Poison("", flow.codec.encode_delivery(good), key=good.path.encode()))
    flow.attempts.until(lambda attempt: attempt["event"] == event.id and attempt["verdict"] == "delivered")


def test_poison_on_events(kitchen: Kitchen, hook: Hook) -> None:
    """Whatever lies in `events`, it is one dead letter that names its place and why."""
    served(kitchen, hook, topics.EVENTS, EVENTS)


def test_poison_on_events_as_cloud_events(kitchen: Kitchen, hook: Hook) -> None:
    """The same with CloudEvents' headers."""
    served(kitchen, hook, topics.EVENTS, CLOUDS, CLOUD)


def test_poison_on_deliveries(kitchen: Kitchen, hook: Hook) -> None:
    """Whatever lies in `deliveries`, it is one dead letter that names its place and why."""
    served(kitchen, hook, topics.DELIVERIES, DELIVERIES)


@pytest.mark.parametrize("tier", ["retry-5s", "retry-60s"])
def test_poison_on_a_tier(kitchen: Kitchen, hook: Hook, tier: str) -> None:
    """Whatever lies in a tier is one dead letter, made where it is first looked into: there, or in `deliveries`."""
    flow, keys = kitchen.flow, {}
    for name, cook in DELIVERIES.items():
        dish, key = cook(kitchen), f"{secrets.token_hex(8)}/wh_1".encode()
        if dish.key is None:
            written(flow, tier, replace(dish, key=key))
            keys[key] = name
    letters = flow.dead.until(lambda letter: letter["key"] in keys, len(keys))
    found = {keys[letter["key"]]: (letter["topic"], letter["reason"]) for letter in letters}
    assert {name: reason for name, (_, reason) in found.items()} == {
        name: DELIVERIES[name](kitchen).reason for name in keys.values()
    }
    assert {topic for name, (topic, _) in found.items() if name.startswith("header")} == {tier}
    assert len(letters) == len(keys)
    _still_flows(flow, hook, tier)


def test_poison_on_the_control_topics(kitchen: Kitchen, hook: Hook) -> None:
    """A webhook's record that cannot be read costs its own events a dead letter each, and nobody else anything."""
    flow, victim = kitchen.flow, kitchen.flow.hook()
    tenant, codec = victim.tenant, kitchen.flow.codec
    junk: list[bytes | None] = [
        *(b"", b"junk", kitchen.event, kitchen.nulls + b"\x80\x80\x80\x80\x80\x80\x20", b"\0\x7f\xff\xff\xff"),
        codec.encode_subscription(victim.subscription)[:-3],
        codec.encode_subscription(hook.subscription),
    ]
    for number, value in enumerate(junk):
        written(flow, topics.SUBSCRIPTIONS, Poison("", value, key=f"{tenant.id}/wh_junk{number}".encode()))
        written(flow, topics.TENANTS, Poison("", value, key=f"junk{number}".encode()))
    written(flow, topics.SUBSCRIPTIONS, Poison("", b"junk", key=b"\xff\xfe" * 100_000))
    event = Event(f"e-{secrets.token_hex(6)}", tenant.id, "order.paid", NOW_MS, "{}")
    place = written(flow, topics.EVENTS, Poison("", codec.encode_event(event)))
    (letter,) = flow.dead.until(lambda one: (one["topic"], one["partition"], one["offset"]) == place)
    assert letter["reason"] == "undecodable"
    assert all(f"wh_junk{number}" in letter["detail"] for number in range(5))
    assert letter["detail"].endswith(f"and {len(junk) - 5} more")
    assert {got.path for got in flow.accepted(victim)} == {victim.path}
    assert len(flow.accepted(victim)) == 1
    orphan = written(flow, topics.EVENTS, Poison("", codec.encode_event(replace(event, tenant="junk1"))))
    (letter,) = flow.dead.until(lambda one: (one["topic"], one["partition"], one["offset"]) == orphan)
    assert (letter["reason"], "junk1" in letter["detail"]) == ("undecodable", True)
    ident = f"msg_{secrets.token_hex(8)}"
    delivery = replace(DELIVERY, id=ident, tenant=tenant.id, webhook="wh_junk1")
    place = written(flow, topics.DELIVERIES, Poison("", codec.encode_delivery(delivery), key=delivery.path.encode()))
    (letter,) = flow.dead.until(lambda one: (one["topic"], one["partition"], one["offset"]) == place)
    assert letter["delivery"]["id"] == ident
    _still_flows(flow, hook, topics.EVENTS)


def test_a_delivery_that_claims_a_later_view(kitchen: Kitchen, hook: Hook) -> None:
    """A delivery that claims to have seen subscriptions which are not there yet does not hold its partition up."""
    flow, number = kitchen.flow, f"msg_{secrets.token_hex(8)}"
    delivery = replace(DELIVERY, id=number, tenant=hook.tenant.id, origin=Origin(topics.EVENTS, 0, 0, 2**62))
    written(flow, topics.DELIVERIES, Poison("", flow.codec.encode_delivery(delivery), key=delivery.path.encode()))
    (letter,) = flow.dead.until(lambda one: (one["delivery"] or {}).get("id") == number)
    assert (letter["reason"], str(2**62) in letter["detail"]) == ("invalid", True)
    _still_flows(flow, hook, topics.DELIVERIES)


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_delivery_at_the_limit(kitchen: Kitchen, hook: Hook, more: int, fits: bool) -> None:  # noqa: FBT001
    """A delivery of the largest size, and one byte less, is tried and tried again; one byte more is a dead letter."""
    flow, number = kitchen.flow, f"msg_{secrets.token_hex(8)}"
    failing = flow.hook(answers=Script(times=1))
    small = replace(
        DELIVERY, id=number, tenant=failing.tenant.id, webhook=failing.subscription.webhook, body=bytes(MIB * 3)
    )
    key = small.path.encode()
    room = LIMIT + more - len(key) - len(flow.codec.encode_delivery(small))
    large = flow.codec.encode_delivery(replace(small, body=bytes(MIB * 3 + room)))
    assert len(large) + len(key) == LIMIT + more
    place = written(flow, topics.DELIVERIES, Poison("", large, key=key))
    if fits:
        attempts = flow.attempts.until(lambda one: one["delivery"] == number, 2)
        assert [one["attempt"] for one in attempts] == [1, 2]
    else:
        (letter,) = flow.dead.until(lambda one: (one["topic"], one["partition"], one["offset"]) == place)
        assert letter["reason"] == "too_large"
    _still_flows(flow, hook, topics.DELIVERIES)


def test_the_dead_letter_of_a_delivery_at_the_limit(kitchen: Kitchen, hook: Hook) -> None:
    """A delivery of the largest size that ends at its endpoint is a dead letter with the delivery in it."""
    flow, gone = kitchen.flow, kitchen.flow.hook(answers=Script(status=410))
    number = f"msg_{secrets.token_hex(8)}"
    large = replace(
        DELIVERY, id=number, tenant=gone.tenant.id, webhook=gone.subscription.webhook, body=bytes(LIMIT - 1_000)
    )
    written(flow, topics.DELIVERIES, Poison("", flow.codec.encode_delivery(large), key=large.path.encode()))
    letter = flow.dead_letter_of(gone)
    assert (letter["delivery"]["id"], len(letter["delivery"]["body"])) == (number, LIMIT - 1_000)
    _still_flows(flow, hook, topics.DELIVERIES)


@pytest.mark.parametrize("more", [-1, 0])
def test_an_event_at_the_limit(kitchen: Kitchen, hook: Hook, more: int) -> None:
    """An event as large as its topic takes, and one byte less, is delivered; the topic takes no larger one."""
    flow = kitchen.flow
    event = Event(f"e-{secrets.token_hex(6)}", hook.tenant.id, "order.paid", NOW_MS, '""')
    size = _largest(flow, event)
    large = flow.codec.encode_event(replace(event, data='"' + "x" * (size + more) + '"'))
    written(flow, topics.EVENTS, Poison("", large))
    (attempt,) = flow.attempts.until(lambda one: one["event"] == event.id)
    assert attempt["verdict"] == "delivered"
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        written(
            flow, topics.EVENTS, Poison("", flow.codec.encode_event(replace(event, data='"' + "x" * (size + 1) + '"')))
        )


def _largest(flow: Flow, event: Event) -> int:
    """How many characters of data the largest event of this kind holds: what a batch adds is found by trying."""
    nobody = replace(event, tenant="n" * len(event.tenant))
    taken, refused = MIB - 1_000, MIB
    while refused - taken > 1:
        middle = (taken + refused) // 2
        try:
            written(
                flow, topics.EVENTS, Poison("", flow.codec.encode_event(replace(nobody, data='"' + "x" * middle + '"')))
            )
            taken = middle
        except AssertionError:
            refused = middle
    return taken


@pytest.mark.parametrize("topic", [topics.EVENTS, topics.DELIVERIES, "retry-5s"])
def test_a_header_whose_name_is_not_text(kitchen: Kitchen, hook: Hook, topic: str) -> None:
    """A record whose header has a name that is not UTF-8, which the client library cannot tell, is a dead letter."""
    flow, key = kitchen.flow, secrets.token_hex(8)
    subprocess.run(
        (sys.executable, str(Path(__file__).parent / "producers" / "raw_header.py")),
        input=f"{flow.settings.bootstrap_servers} {topic} {key}",
        env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"},
        text=True,
        check=True,
        timeout=60,
    )
    (letter,) = flow.dead.until(lambda one: one["key"] == key.encode())
    assert (letter["topic"], letter["partition"], letter["reason"]) == (topic, 0, "framing")
    _still_flows(flow, hook, topic)
