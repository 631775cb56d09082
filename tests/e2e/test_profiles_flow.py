"""The six products through the whole flow: an event in at Kafka, a verified request out, or a dead letter."""

from __future__ import annotations

import time
from dataclasses import replace

import orjson
import pytest

from pipeline.flow.event import Event
from pipeline.http.receiver import Script
from pipeline.profiles import PROFILES, examples
from tests.e2e.flow import Flow, Hook

pytestmark = pytest.mark.kafka


def _event(hook: Hook, event_id: str = "e-1") -> Event:
    return examples(hook.tenant.profile)[0].event(hook.tenant.id, event_id, time.time_ns() // 1_000_000)


@pytest.mark.parametrize("profile", PROFILES)
def test_an_event_arrives_and_is_verified(flow: Flow, profile: str) -> None:
    """One event is one request that keeps its product's rule, with the rendered body; its attempt says so."""
    hook = flow.hook(profile)
    event = _event(hook)
    flow.send(event)
    (got,) = flow.accepted(hook)
    assert got.body == PROFILES[profile].body(event, hook.tenant, got.webhook_id)
    (attempt,) = flow.attempts_of(hook)
    assert (attempt["verdict"], attempt["delivery"], attempt["event"]) == ("delivered", got.webhook_id, event.id)
    assert attempt["next"]["kind"] == "done"


def test_what_is_unavailable_once_is_sent_again(flow: Flow) -> None:
    """After a 503 the same delivery waits in retry-5s and arrives with its second attempt, the same bytes."""
    hook = flow.hook(answers=Script(times=1))
    flow.send(_event(hook))
    (got,) = flow.accepted(hook)
    first, second = flow.attempts_of(hook, 2)
    assert hook.receiver.tried(hook.path) == {got.webhook_id: 2}
    assert {one.body for one in hook.receiver.requests(hook.path)} == {got.body}
    assert [(one["attempt"], one["verdict"], one["status_code"]) for one in (first, second)] == [
        (1, "rejected", 503),
        (2, "delivered", 200),
    ]
    assert (first["next"]["kind"], first["next"]["wait_ms"]) == ("retry", 8 * 150)
    waited = flow.waiting.until(lambda one: one["id"] == got.webhook_id, 8)
    assert {one["attempt"] for one in waited} == {2}


def test_what_is_gone_becomes_a_dead_letter(flow: Flow) -> None:
    """410 ends a delivery at once; its dead letter holds the delivery and the attempt."""
    hook = flow.hook(answers=Script(status=410))
    flow.send(_event(hook))
    letter = flow.dead_letter_of(hook)
    (attempt,) = flow.attempts_of(hook)
    assert (letter["reason"], attempt["verdict"]) == ("gone", "gone")
    assert letter["last_attempt"] == attempt
    assert letter["delivery"]["id"] == attempt["delivery"]
    assert orjson.loads(letter["delivery"]["body"])["type"] == attempt["type"]


def test_monitorqa_sends_nothing_again_after_an_answer(flow: Flow) -> None:
    """A 500 is final for MonitorQA: one attempt, and a dead letter that says rejected."""
    hook = flow.hook("monitorqa", Script(status=500))
    flow.send(_event(hook))
    letter = flow.dead_letter_of(hook)
    (attempt,) = flow.attempts_of(hook)
    assert (letter["reason"], attempt["verdict"], attempt["status_code"]) == ("rejected", "rejected", 500)
    assert list(hook.receiver.tried(hook.path).values()) == [1]


def test_a_webhook_that_is_deactivated_is_skipped(flow: Flow) -> None:
    """A delivery that waits when its webhook is deactivated ends without a request: its attempt says skipped."""
    hook = flow.hook(answers=Script(times=1))
    flow.heard(hook, lambda: flow.write_webhook(replace(hook.subscription, active=False, version=2)))
    flow.send(_event(hook))
    first, second = flow.attempts_of(hook, 2)
    assert [(one["verdict"], one["next"]["kind"]) for one in (first, second)] == [
        ("rejected", "retry"),
        ("skipped", "skipped"),
    ]
    assert (second["attempt"], second["status_code"]) == (2, None)
    assert list(hook.receiver.tried(hook.path).values()) == [1]


def test_a_webhook_gets_what_is_produced_after_it(flow: Flow) -> None:
    """An event meets the webhooks of its time: a later one gets the next event, and nothing of before."""
    early = flow.hook()
    flow.send(_event(early, "before"))
    flow.accepted(early)
    late = flow.hook(tenant=early.tenant)
    flow.send(_event(early, "after"))
    flow.accepted(early, 2)
    flow.accepted(late)
    attempts = flow.attempts_of(early, 3)
    assert sorted((one["event"], one["webhook"]) for one in attempts) == sorted(
        [
            ("before", early.subscription.webhook),
            ("after", early.subscription.webhook),
            ("after", late.subscription.webhook),
        ]
    )
