from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Origin, delivery_id
from pipeline.flow.event import Event
from pipeline.flow.expressions import compiled
from pipeline.flow.filters import Content
from pipeline.flow.health import OPERATIONS, Change, EndpointState, operational_event
from pipeline.flow.subscription import Tenant
from pipeline.ports import Outgoing, Record, Tenancy
from pipeline.profiles import PROFILES
from pipeline.workers.carriage import FIRST, LIMIT
from pipeline.workers.router import Router
from tests.workers.parts import CODEC, NOW_MS, UNDERTAKER, read

EVENT = Event("evt-1", "acme", "order.paid", NOW_MS, '{"a": 1.10}', source="shop")


@dataclass
class Tenants:
    """Who wants what: webhooks of tenants, as the view has them."""

    webhooks: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"acme": ("wh_1", "wh_2")})
    profile: str = "standard"
    offset: int = 17
    unreadable: Undecodable | None = None
    contents: dict[str, Content] = field(default_factory=dict)

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant, if it is there."""
        if self.unreadable:
            raise self.unreadable
        if tenant not in self.webhooks:
            return None
        wanting: Callable[[str], tuple[str, ...]] = lambda _type: self.webhooks[tenant]  # noqa: E731
        return Tenancy(Tenant(tenant, "Acme", self.profile), PROFILES[self.profile], wanting, (), self.contents)


def routed(record: Record, tenants: Tenants | None = None) -> list[Outgoing]:
    return Router(CODEC, tenants or Tenants(), UNDERTAKER)(record)


def produced(event: Event = EVENT, **more: Any) -> Record:
    return read("events", CODEC.encode_event(event), 9, key=b"any", **more)


def buried(record: Record, tenants: Tenants | None = None) -> DeadLetter:
    """The one dead letter that the record causes."""
    (out,) = routed(record, tenants)
    assert out.topic == "retry-dlq"
    letter = CODEC.dead_letter(out.value)
    assert letter.source == Source("events", 3, 9)
    assert letter.value == record.value
    return letter


def test_an_operational_event_that_comes_before_its_tenant_is_kept() -> None:
    """Before the API has made tenant `_operations`, what the pipeline tells is a dead letter to redrive, not lost."""
    event = operational_event(EndpointState("acme", "wh_1", 1, disabled=True, reason="gone"), Change.DISABLED, NOW_MS)
    letter = buried(produced(event))
    assert (letter.reason, CODEC.event(produced(event))) == (Reason.UNKNOWN_TENANT, event)
    (delivery,) = routed(produced(event), Tenants({OPERATIONS: ("wh_9",)}))
    assert delivery.key == b"_operations/wh_9"


def test_each_webhook_that_wants_it_gets_a_delivery() -> None:
    """One delivery a webhook, on its key, with the body as the tenant's product renders it."""
    first, second = routed(produced())
    assert [first.topic, second.topic] == ["deliveries"] * 2
    assert [first.key, second.key] == [b"acme/wh_1", b"acme/wh_2"]
    assert first.headers == second.headers == FIRST
    delivery = CODEC.delivery(first.value)
    assert delivery.id == delivery_id(EVENT, "wh_1", hashlib.sha256(EVENT.data.encode()).digest())
    assert delivery.body == PROFILES["standard"].body(EVENT, Tenant("acme", "Acme", "standard"), delivery.id)
    assert (delivery.tenant, delivery.webhook, delivery.event) == ("acme", "wh_1", "evt-1")
    assert (delivery.type, delivery.source, delivery.time_ms) == ("order.paid", "shop", NOW_MS)
    assert (delivery.attempt, delivery.replay) == (1, None)
    assert delivery.origin == Origin("events", 3, 9, 17)


def test_a_filter_chooses_by_content() -> None:
    """A webhook whose filter does not match gets nothing; its neighbours, filtered or not, get theirs."""
    tenants = Tenants({"acme": ("wh_1", "wh_2", "wh_3")})
    tenants.contents = {"wh_1": Content(compiled("data.a > `2`")), "wh_2": Content(compiled("data.a > `1`"))}
    assert [out.key for out in routed(produced(), tenants)] == [b"acme/wh_2", b"acme/wh_3"]


def test_a_projection_makes_the_body() -> None:
    """The body's data is the projection's result, the delivery's id the same as without; others get it as it was."""
    tenants = Tenants(contents={"wh_1": Content(None, compiled("{b: data.a, of: id}"))})
    (plain, _), (projected, other) = (
        [CODEC.delivery(out.value) for out in routed(produced(), one)] for one in (Tenants(), tenants)
    )
    assert projected.body == plain.body.replace(b'{"a": 1.10}', b'{"b":1.1,"of":"evt-1"}')
    assert projected.id == plain.id
    assert b'{"a": 1.10}' in other.body


def test_what_cannot_be_judged_is_buried_and_hurts_nobody() -> None:
    """Of a webhook whose filter cannot be used it is not known what it wants: a dead letter says so, others get it."""
    tenants = Tenants(contents={"wh_1": Content(compiled("a ="))})
    delivered, letter = routed(produced(), tenants)
    assert delivered.key == b"acme/wh_2"
    buried_as = CODEC.dead_letter(letter.value)
    assert buried_as.reason is Reason.UNDECODABLE
    assert "acme/wh_1: its filter: This JMESPath expression cannot be used" in buried_as.detail


def test_many_that_cannot_be_judged_are_one_dead_letter() -> None:
    """One dead letter an event, which names some of them: redriving it asks all again."""
    webhooks = tuple(f"wh_{number}" for number in range(30))
    tenants = Tenants({"acme": webhooks}, contents=dict.fromkeys(webhooks, Content(compiled("a ="))))
    detail = buried(produced(), tenants).detail
    assert detail.count("its filter") == 5
    assert detail.endswith("; and 25 more")


def test_an_event_that_nobody_wants_causes_nothing() -> None:
    """Without a webhook that wants the type there is nothing to write."""
    assert routed(produced(), Tenants({"acme": ()})) == []


def test_a_repeat_is_the_same_delivery() -> None:
    """The same event at another offset has the same id and the same bytes; other data has another id."""
    one, again = (CODEC.delivery(routed(replace(produced(), offset=offset))[0].value) for offset in (1, 2))
    other = CODEC.delivery(routed(produced(replace(EVENT, data="{}")))[0].value)
    assert (one.id, one.body) == (again.id, again.body)
    assert other.id != one.id


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\x00\x00", b"\x01" + CODEC.encode_event(EVENT)[1:]])
def test_bytes_in_no_wire_format_are_buried(value: bytes | None) -> None:
    """What is empty or not framed is a dead letter with reason `framing`."""
    assert buried(read("events", value, 9)).reason is Reason.FRAMING


def test_an_unknown_schema_is_buried() -> None:
    """An id that the registry does not know is named in the dead letter."""
    letter = buried(read("events", b"\x00\x00\x00\x30\x39rest", 9))
    assert (letter.reason, "12345" in letter.detail) == (Reason.UNKNOWN_SCHEMA, True)


def test_a_truncated_record_is_buried() -> None:
    """A body that ends too early is a dead letter with reason `undecodable`."""
    assert buried(read("events", CODEC.encode_event(EVENT)[:-6], 9)).reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("event", "reason", "detail"),
    [
        (replace(EVENT, id=""), Reason.INVALID, "id must be"),
        (replace(EVENT, tenant="a/b"), Reason.INVALID, "tenant must be"),
        (replace(EVENT, type=""), Reason.INVALID, "type must be a text of 1 to 1024 characters"),
        (replace(EVENT, tenant="nobody"), Reason.UNKNOWN_TENANT, "'nobody'"),
        (replace(EVENT, type="not a type"), Reason.UNKNOWN_TYPE, "'not a type'"),
        (replace(EVENT, data="{"), Reason.INVALID, "data is not JSON"),
        (replace(EVENT, time_ms=-1), Reason.INVALID, "time must be"),
    ],
)
def test_an_event_that_cannot_be_sent_is_buried(event: Event, reason: Reason, detail: str) -> None:
    """The dead letter says which rule the event breaks, and names the field."""
    letter = buried(produced(event))
    assert letter.reason is reason
    assert detail in letter.detail


def test_an_event_that_nobody_wants_is_judged_all_the_same() -> None:
    """A producer's mistake is told whether or not a webhook would have got the event."""
    assert buried(produced(replace(EVENT, data="{")), Tenants({"acme": ()})).reason is Reason.INVALID


def test_a_tenant_that_cannot_be_read_stops_nobody_else() -> None:
    """Where the view's record of a tenant cannot be read, its events are set aside and the partition goes on."""
    tenants = Tenants(unreadable=Undecodable("undecodable", "the Avro body cannot be read"))
    assert buried(produced(), tenants).reason is Reason.UNDECODABLE


def test_a_body_that_fits_no_topic_is_buried() -> None:
    """What is larger than a delivery may be is buried for that webhook, pointing to its event."""
    event = replace(EVENT, data='"' + "x" * LIMIT + '"')
    letters = routed(produced(event))
    assert [out.topic for out in letters] == ["retry-dlq"] * 2
    assert [CODEC.dead_letter(out.value).reason for out in letters] == [Reason.TOO_LARGE] * 2
    assert "wh_1" in CODEC.dead_letter(letters[0].value).detail


def test_a_body_at_the_limit_is_delivered() -> None:
    """The largest delivery is written; one byte more is not."""
    empty = routed(produced(replace(EVENT, data='""')), Tenants({"acme": ("wh_1",)}))[0]
    room = LIMIT - empty.size - 6  # the two longer lengths that Avro writes before a long body
    for size, topic in ((room, "deliveries"), (room + 1, "deliveries"), (room + 20, "retry-dlq")):
        (out,) = routed(produced(replace(EVENT, data='"' + "x" * size + '"')), Tenants({"acme": ("wh_1",)}))
        assert out.topic == topic
