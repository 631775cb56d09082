"""Filters and projections through the running stages."""

from __future__ import annotations

import time
from dataclasses import replace

import orjson
import pytest

from pipeline.flow.event import Event
from tests.e2e.flow import Flow, Hook

pytestmark = pytest.mark.kafka

COUNT = 20


def _send(flow: Flow, hook: Hook, number: int) -> None:
    data = f'{{"n": {number}, "exactly": {number}.10}}'
    flow.send(Event(f"e{number}", hook.tenant.id, "order.paid", time.time_ns() // 1_000_000, data))


def _routed(flow: Flow, hook: Hook, last: str) -> set[str]:
    """The events of which the webhook has a delivery, once it has that of the last: they are all in one partition."""
    flow.deliveries.until(lambda one: (one["webhook"], one["event"]) == (hook.subscription.webhook, last))
    return {one["event"] for one in flow.deliveries.read(lambda one: one["webhook"] == hook.subscription.webhook)}


def test_a_filtered_webhook_gets_exactly_the_events_that_match(flow: Flow) -> None:
    """And what its projection says of them; an unfiltered one gets all, as they were; an edit counts at once."""
    every = flow.hook()
    filtered = flow.hook(tenant=every.tenant)
    choice = replace(filtered.subscription, filter="data.n >= `10` && data.n != `15`", projection="{n: data.n}")
    flow.write_webhook(replace(choice, version=2))
    for number in range(COUNT):
        _send(flow, every, number)
    wanted = {f"e{number}" for number in range(10, COUNT)} - {"e15"}
    assert _routed(flow, filtered, f"e{COUNT - 1}") == wanted
    assert _routed(flow, every, f"e{COUNT - 1}") == {f"e{number}" for number in range(COUNT)}
    projected = [orjson.loads(got.body)["data"] for got in flow.accepted(filtered, len(wanted))]
    assert sorted(one["n"] for one in projected) == sorted(int(event[1:]) for event in wanted)
    assert all(set(one) == {"n"} for one in projected)
    assert all(b'"exactly": ' in got.body for got in flow.accepted(every, COUNT))
    flow.write_webhook(replace(choice, filter="data.n == `0`", version=3))
    for number in (COUNT, 0):
        _send(flow, every, number)
    assert _routed(flow, filtered, "e0") == wanted | {"e0"}


def test_a_filter_that_cannot_be_used_stops_nobody(flow: Flow) -> None:
    """The webhook's events are dead letters that say why; its neighbour gets them, and it too once it is mended."""
    broken = flow.hook()
    neighbour = flow.hook(tenant=broken.tenant)
    flow.write_webhook(replace(broken.subscription, filter="data.n =", version=2))
    _send(flow, broken, 1)
    flow.accepted(neighbour)
    (letter,) = flow.dead.until(lambda one: broken.subscription.path in one["detail"])
    assert (letter["reason"], letter["delivery"]) == ("undecodable", None)
    assert "cannot be used at character 8" in letter["detail"]
    flow.write_webhook(replace(broken.subscription, filter="data.n", version=3))
    _send(flow, broken, 2)
    assert _routed(flow, broken, "e2") == {"e2"}
