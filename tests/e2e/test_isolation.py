"""Endpoints that hang, or that may get little, and their neighbours, through the whole flow."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipeline.flow.event import Event
from pipeline.http.receiver import Script
from tests.e2e.flow import Flow, Hook

pytestmark = pytest.mark.kafka


def events(hook: Hook, number: int) -> Iterator[Event]:
    now_ms = time.time_ns() // 1_000_000
    for one in range(number):
        yield Event(f"e-{one}", hook.tenant.id, "order.paid", now_ms, "{}")


@contextmanager
def hanging() -> Iterator[str]:
    """A URL where connections are made and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_an_endpoint_that_hangs_holds_nobody_up(flow: Flow) -> None:
    """Beside hundreds of deliveries for an endpoint that never answers, a neighbour gets its own at once."""
    hook = flow.hook()
    with hanging() as url:
        dead = flow.hook()
        flow.write_webhook(replace(dead.subscription, url=url))
        for event in events(dead, 400):
            flow.send(event)
        for event in events(hook, 40):
            flow.send(event)
        flow.accepted(hook, 40)
        assert len({one["attempt"] for one in flow.attempts_of(hook, 40)}) == 1


def test_a_limited_endpoint_gets_all_at_its_rate(flow: Flow) -> None:
    """Twice the rate's worth of a second arrives no faster than the rate, without an attempt burnt, all of it."""
    hook = flow.hook()
    flow.write_webhook(replace(hook.subscription, rate=20.0))
    begun = time.monotonic()
    for event in events(hook, 60):
        flow.send(event)
    flow.accepted(hook, 60)
    assert time.monotonic() - begun > (60 - 20 * 0.5 - 1) / 20  # half a second's worth is made up for at the start
    attempts = flow.attempts_of(hook, 60)
    assert {(one["attempt"], one["verdict"]) for one in attempts} == {(1, "delivered")}
    assert any(one["hop"] > 0 for one in attempts)


def test_a_gone_endpoint_gets_nothing_more(flow: Flow) -> None:
    """After a 410 the webhook is disabled: what is routed before the router knows is skipped, the rest not routed."""
    hook = flow.hook(answers=Script(status=410))
    first, *rest = events(hook, 30)
    flow.send(first)
    flow.dead_letter_of(hook)
    for event in rest:
        flow.send(event)
    witness = flow.hook()
    flow.send(next(events(witness, 1)))
    flow.accepted(witness)
    assert len(hook.receiver.requests(hook.path)) == 1
