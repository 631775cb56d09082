"""A webhook that failures have disabled, through the running stages."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import datetime

import orjson
import pytest

from pipeline.flow.event import Event
from pipeline.flow.health import OPERATIONS, EndpointState
from pipeline.http.receiver import Script
from tests.e2e.flow import Flow, Hook
from tests.e2e.following import Wanted

pytestmark = pytest.mark.kafka

QUIET = 5
"""So many events in a row that one webhook got and the other did not: that is no delay in reading."""


def _send(flow: Flow, hook: Hook, event_id: str) -> None:
    flow.send(Event(event_id, hook.tenant.id, "order.paid", time.time_ns() // 1_000_000, "{}"))


def _routed(flow: Flow, hook: Hook) -> set[str]:
    """The events of which a delivery to the webhook has been read."""
    return {one["event"] for one in flow.deliveries.read(lambda one: one["webhook"] == hook.subscription.webhook)}


def test_a_disabled_webhook_is_not_routed_to_until_it_is_activated(flow: Flow) -> None:
    """Its neighbour gets every event; it gets those from its activation on, and none of those between."""
    disabled = flow.hook()
    neighbour = flow.hook(tenant=disabled.tenant)
    _send(flow, disabled, "before")
    flow.accepted(disabled)
    webhook = disabled.subscription
    flow.write_state(EndpointState(webhook.tenant, webhook.webhook, webhook.generation, disabled=True, reason="gone"))
    between: list[str] = []
    for number in itertools.count(1):
        _send(flow, disabled, f"e{number}")
        flow.accepted(neighbour, number + 1)
        flow.deliveries.until(_delivery(neighbour, f"e{number}"))
        between = [*between, f"e{number}"] if not _routed(flow, disabled) & {f"e{number}", *between} else []
        if len(between) == QUIET:
            break
        assert number < 1_000, "it is still routed to"
    flow.write_webhook(replace(webhook, generation=webhook.generation + 1, version=2))
    _send(flow, disabled, "after")
    flow.deliveries.until(_delivery(disabled, "after"))  # its deliveries are in one partition: none is read later
    assert not _routed(flow, disabled) & set(between)
    flow.until(disabled, lambda: len(disabled.receiver.requests(disabled.path)) >= 2)
    after = flow.attempts.until(lambda one: (one["webhook"], one["event"]) == (webhook.webhook, "after"))
    assert [one["verdict"] for one in after] == ["delivered"]


def test_who_is_gone_is_disabled_and_the_operator_hears_of_it(flow: Flow) -> None:
    """The first 410 writes the state and an operational event, which a webhook of `_operations` gets like any other."""
    operator = flow.hook(tenant=flow.add_tenant(ident=OPERATIONS))
    gone = flow.hook(answers=Script(status=410))
    try:
        _send(flow, gone, "e1")
        (got,) = flow.accepted(operator)
    finally:  # its secrets are sealed by this module's key: no other module's sender could open them
        flow.remove(operator)
    told = orjson.loads(got.body)
    since = told["data"].pop("failing_since")
    assert abs(datetime.fromisoformat(since).timestamp() - time.time()) < 60
    expected = {"tenant": gone.tenant.id, "webhook": gone.subscription.webhook, "failures": 1}
    assert told["type"] == "endpoint.disabled"
    assert told["data"] == {**expected, "last_verdict": "gone", "reason": "gone"}
    assert list(gone.receiver.tried(gone.path).values()) == [1]


def _delivery(hook: Hook, event: str) -> Wanted:
    return lambda one: (one["webhook"], one["event"]) == (hook.subscription.webhook, event)
