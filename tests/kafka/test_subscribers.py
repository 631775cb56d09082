from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.errors import Undecodable
from pipeline.flow.expressions import compiled
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka import subscribers as module
from pipeline.kafka.codec import Codec
from pipeline.kafka.feed import Feed
from pipeline.kafka.metrics import StageCollector
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.schemas import load
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.kafka.tracker import Tracker
from pipeline.kafka.writers import parsed
from tests.api.parts import MemoryView
from tests.workers.parts import CODEC

ACME = Tenant("acme", "Acme", "standard")
ALL = Subscription("acme", "wh_1", "https://example.com/", ("*",), Auth("none"))
DISABLED = EndpointState("acme", "wh_1", ALL.generation, disabled=True, reason="failing")


class View(MemoryView):
    """A table in memory, written as the API and the senders write it."""

    def write(self, *records: Tenant | Subscription | EndpointState) -> None:
        """As they do."""
        for record in records:
            if isinstance(record, EndpointState):
                self.put(ENDPOINT_STATE, record.path, CODEC.encode_endpoint_state(record))
            elif isinstance(record, Tenant):
                self.put(TENANTS, record.id, CODEC.encode_tenant(record))
            else:
                self.put(SUBSCRIPTIONS, record.path, CODEC.encode_subscription(record))


@pytest.fixture
def view() -> View:
    made = View()
    made.write(ACME, ALL)
    return made


@pytest.fixture
def subscribers(view: View) -> ViewSubscribers:
    return ViewSubscribers(cast("Any", view), CODEC)


def wanting(subscribers: ViewSubscribers, event_type: str = "order.paid", tenant: str = "acme") -> set[str]:
    found = subscribers.of(tenant)
    assert found is not None
    return set(found.wanting(event_type))


def test_a_tenant_comes_with_its_product(subscribers: ViewSubscribers) -> None:
    """The tenant's record, its profile and how far the subscriptions have been read are told."""
    found = subscribers.of("acme")
    assert found is not None
    assert (found.tenant, found.profile.name, subscribers.offset) == (ACME, "standard", 1)


def test_an_unknown_tenant_is_none(subscribers: ViewSubscribers) -> None:
    """A tenant that the view does not have is not there, and is when it has come."""
    assert subscribers.of("nobody") is None


def test_webhooks_want_what_they_have_chosen(view: View, subscribers: ViewSubscribers) -> None:
    """Exact types, prefixes and everything; never what another tenant's webhook wants."""
    view.write(replace(ALL, webhook="wh_2", events=("order.paid",)), replace(ALL, webhook="wh_3", events=("order.*",)))
    view.write(replace(ACME, id="other"), replace(ALL, tenant="other", webhook="wh_9"))
    assert wanting(subscribers) == {"wh_1", "wh_2", "wh_3"}
    assert wanting(subscribers, "order.sent") == {"wh_1", "wh_3"}
    assert wanting(subscribers, "invoice.paid") == {"wh_1"}
    assert wanting(subscribers, tenant="other") == {"wh_9"}


def test_a_change_counts_from_the_next_event_on(view: View, subscribers: ViewSubscribers) -> None:
    """A webhook that is added, switched off or removed, and a tenant that goes, are seen at the next look."""
    assert wanting(subscribers) == {"wh_1"}
    view.write(replace(ALL, webhook="wh_2"))
    assert wanting(subscribers) == {"wh_1", "wh_2"}
    view.write(replace(ALL, active=False))
    assert wanting(subscribers) == {"wh_2"}
    view.put(SUBSCRIPTIONS, "acme/wh_2", None)
    assert wanting(subscribers) == set()
    view.put(TENANTS, "acme", None)
    assert subscribers.of("acme") is None


def test_a_disabled_webhook_wants_nothing(view: View, subscribers: ViewSubscribers) -> None:
    """From the state's arrival on nothing is routed to the webhook, and to its neighbour all; another state ends it."""
    view.write(replace(ALL, webhook="wh_2"))
    assert wanting(subscribers) == {"wh_1", "wh_2"}
    view.write(DISABLED)
    assert wanting(subscribers) == {"wh_2"}
    view.write(replace(DISABLED, disabled=False))
    assert wanting(subscribers) == {"wh_1", "wh_2"}


def test_a_webhook_was_disabled_before_the_router_began(view: View) -> None:
    """What the view holds at the beginning counts like what comes later."""
    view.write(DISABLED)
    assert wanting(ViewSubscribers(cast("Any", view), CODEC)) == set()


def test_an_activated_webhook_is_routed_to_again(view: View, subscribers: ViewSubscribers) -> None:
    """A new generation leaves the old one's state behind, and can be disabled itself."""
    view.write(DISABLED)
    assert wanting(subscribers) == set()
    view.write(replace(ALL, generation=ALL.generation + 1))
    assert wanting(subscribers) == {"wh_1"}
    view.write(replace(DISABLED, reserved_until_ms=9))
    assert wanting(subscribers) == {"wh_1"}
    view.write(replace(DISABLED, generation=ALL.generation + 1))
    assert wanting(subscribers) == set()


def test_a_state_that_changes_nothing_for_the_router_costs_it_nothing(view: View, subscribers: ViewSubscribers) -> None:
    """The senders tell every few seconds how an endpoint fares: what is kept ready stays."""
    before = subscribers.of("acme")
    for number in range(5):
        view.write(replace(DISABLED, disabled=False, reserved_until_ms=number))
        assert subscribers.of("acme") is before


def test_a_state_that_cannot_be_read_hurts_nobody(view: View, subscribers: ViewSubscribers) -> None:
    """Such a state counts for nothing: no event becomes a dead letter for it; it is warned of."""
    view.put(ENDPOINT_STATE, "acme/wh_1", b"junk")
    found = subscribers.of("acme")
    assert found is not None
    assert (set(found.wanting("a.b")), found.unreadable) == ({"wh_1"}, ())
    assert "1 endpoint states cannot be read" in (subscribers.warning or "")
    assert subscribers.of("acme") is found


def test_a_state_of_another_version_counts_once_its_schema_is_known(view: View) -> None:
    """A router meets a newer sender's state before its schema: it looks again until it knows what it says."""
    codec = Codec(CODEC.client, CODEC.heads)
    subscribers = ViewSubscribers(cast("Any", view), codec)
    assert wanting(subscribers) == {"wh_1"}
    view.put(ENDPOINT_STATE, "acme/wh_1", b"\x00\x00\x00\x01\x00" + CODEC.encode_endpoint_state(DISABLED)[5:])
    assert wanting(subscribers) == {"wh_1"}
    writer = parsed([load("endpoint_state")])
    assert writer is not None
    codec.writers[256] = writer
    assert wanting(subscribers) == set()


def test_a_tenant_whose_precondition_does_not_hold_wants_nothing(view: View, subscribers: ViewSubscribers) -> None:
    """While a tenant's plan does not allow webhooks its events go nowhere; the tenant is known all the same."""
    view.write(Tenant("acme", "Acme", "qase", plan="free"))
    assert wanting(subscribers, "case.created") == set()
    view.write(Tenant("acme", "Acme", "qase", plan="business"))
    assert wanting(subscribers, "case.created") == {"wh_1"}


def test_what_is_remembered_is_bounded(
    view: View, subscribers: ViewSubscribers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tenants and types come by, few are kept ready, and all are answered."""
    monkeypatch.setattr(module, "_TENANTS", 3)
    monkeypatch.setattr(module, "_TYPES", 2)
    for number in range(10):
        view.write(replace(ACME, id=f"t{number}"), replace(ALL, tenant=f"t{number}"))
    for _ in range(2):
        for number in range(10):
            assert [wanting(subscribers, f"type.{n}", f"t{number}") for n in range(5)] == [{"wh_1"}] * 5
    assert len(subscribers._known) == 3


def test_a_record_that_cannot_be_read_hurts_no_other(view: View, subscribers: ViewSubscribers) -> None:
    """A webhook's record that cannot be read leaves the tenant's others theirs; it is told of until it is mended."""
    view.write(replace(ALL, webhook="wh_2"))
    for junk in (
        b"",
        b"\x00\x00\x00\x00\x03",
        CODEC.encode_tenant(ACME),
        CODEC.encode_subscription(replace(ALL, webhook="wh_9")),
    ):
        view.put(SUBSCRIPTIONS, "acme/wh_1", junk)
        assert wanting(subscribers) == {"wh_2"}
        found = subscribers.of("acme")
        assert found is not None
        assert found.unreadable == ("acme/wh_1",)
        assert "1 control records cannot be read; one is acme/wh_1 of subscriptions" in (subscribers.warning or "")
    view.write(ALL)
    assert wanting(subscribers) == {"wh_1", "wh_2"}
    assert subscribers.warning is None


def test_filters_and_projections_come_with_the_webhooks(view: View, subscribers: ViewSubscribers) -> None:
    """Only those that have one, compiled; an edit counts from the next event on."""
    view.write(replace(ALL, webhook="wh_2", filter="data.a"), replace(ALL, webhook="wh_3", projection="data.b"))
    found = subscribers.of("acme")
    assert found is not None
    assert {webhook: (made.filter, made.projection) for webhook, made in found.contents.items()} == {
        "wh_2": (compiled("data.a"), None),
        "wh_3": (None, compiled("data.b")),
    }
    view.write(replace(ALL, webhook="wh_2"), replace(ALL, webhook="wh_3", projection="data.b", active=False))
    found = subscribers.of("acme")
    assert found is not None
    assert found.contents == {}


def test_a_filter_that_cannot_be_used_is_told_of(view: View, subscribers: ViewSubscribers) -> None:
    """A record of another version's: the webhook wants what it wanted, what it gets is not known; that is warned of."""
    view.write(replace(ALL, filter="a ="))
    found = subscribers.of("acme")
    assert found is not None
    assert found.wanting("a.b") == ("wh_1",)
    assert found.contents["wh_1"].fault is not None
    assert subscribers.of("acme") is found
    assert "one is acme/wh_1: its filter" in (subscribers.warning or "")
    view.write(ALL)
    assert subscribers.warning is None


def test_a_schema_that_comes_late_is_not_waited_for_in_vain(view: View) -> None:
    """A record that could not be read only because its schema was not known yet is read as soon as it is."""
    codec = Codec(CODEC.client, CODEC.heads)
    late = b"\x00\x00\x00\x01\x00" + CODEC.encode_subscription(ALL)[5:]
    view.put(SUBSCRIPTIONS, ALL.path, late)
    subscribers = ViewSubscribers(cast("Any", view), codec)
    assert wanting(subscribers) == set()
    writer = parsed([load("subscription")])
    assert writer is not None
    codec.writers[256] = writer
    assert wanting(subscribers) == {"wh_1"}
    assert subscribers.warning is None


def test_a_removed_record_is_not_told_of(view: View, subscribers: ViewSubscribers) -> None:
    """A record that could not be read is mended by its removal too."""
    view.put(SUBSCRIPTIONS, "acme/wh_1", b"junk")
    assert wanting(subscribers) == set()
    view.put(SUBSCRIPTIONS, "acme/wh_1", None)
    found = subscribers.of("acme")
    assert found is not None
    assert (found.unreadable, subscribers.warning) == ((), None)


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"junk", CODEC.encode_subscription(ALL)),
        CODEC.encode_tenant(replace(ACME, profile="unheard-of")),
        CODEC.encode_tenant(replace(ACME, id="other")),
    ],
)
def test_a_tenant_that_cannot_be_served_is_told(view: View, subscribers: ViewSubscribers, record: bytes) -> None:
    """A tenant whose record cannot be read, or whose product this version does not know, is not taken for absent."""
    view.put(TENANTS, "acme", record)
    with pytest.raises(Undecodable, match="tenant acme cannot be used"):
        subscribers.of("acme")
    assert "acme of tenants" in (subscribers.warning or "")
    view.write(ACME)
    assert wanting(subscribers) == {"wh_1"}
    assert subscribers.warning is None


def test_a_stage_tells_its_state() -> None:
    """Partitions held, records unfinished and bytes unreported are gauges, read when they are asked for."""

    class Half:
        tracker = Tracker()
        unreported_bytes = 17

    registry, half = CollectorRegistry(), Half()
    StageCollector(cast("Feed", half), cast("Publisher", half), registry)
    half.tracker.take(("events", 0))
    half.tracker.partitions["events", 0].see(5)
    shown = generate_latest(registry).decode()
    assert "pipeline_partitions 1.0" in shown
    assert "pipeline_unfinished 1.0" in shown
    assert "pipeline_unreported_bytes 17.0" in shown
