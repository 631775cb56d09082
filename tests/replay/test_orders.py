"""Replays as their owners order them: to whom, beside each other, paused, gone on with, called off, and by whom."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from pipeline.flow.replay import MOST_RATE
from pipeline.http.receiver import Script
from pipeline.kafka import topics
from tests.providers.system import System, eventually
from tests.providers.ways import Refused, Rest
from tests.replay.customers import Customer, Endpoint, Replay, boundary, ends, once, recorded

pytestmark = [pytest.mark.kafka, pytest.mark.replay]

MANY, RATE, SOME = 60, 20.0, 8
"""Events of a replay that takes a while, at which rate, and how many of them are enough to see that it runs."""


def _with_history(system: System, count: int = 3) -> tuple[Customer, tuple[str, ...], dict[str, str]]:
    """A customer whose events nobody wanted when they happened; the events, and their window."""
    customer, begin = Customer.new(system), boundary()
    events = customer.send(*("order.paid",) * count)
    system.routed()
    return customer, events, {"since": begin, "until": boundary()}


def test_a_new_webhook_gets_what_was_before_it(system: System) -> None:
    """Back-fill: the webhook did not exist when the events happened; it gets each of them once."""
    customer, events, window = _with_history(system)
    hook = customer.hook("order.*")
    replay = customer.replay(**window, webhooks=[hook.id])
    replay.settled()
    assert hook.endpoint.came(replay.id) == once(events)
    assert hook.endpoint.came() == {}


def test_a_url_of_one_replay(system: System) -> None:
    """Somebody's receiver gets the events, signed with the secret that was shown once; no list shows a webhook."""
    customer, events, window = _with_history(system)
    endpoint = Endpoint.at(system)
    assert customer.plan(**window, target={"url": endpoint.url})["deliveries"] == len(events)
    replay = customer.replay(**window, target={"url": endpoint.url})
    endpoint.expect(replay.answer["target"]["auth"]["secret"])
    shown = replay.settled()
    assert endpoint.came(replay.id) == once(events)
    assert shown["target"]["url"] == endpoint.url
    assert shown["target"]["auth"]["secret"] != replay.answer["target"]["auth"]["secret"]
    assert customer.admin.listed(customer.tenant) == []
    customer.send("order.paid")
    system.routed()
    assert endpoint.came() == {}


def test_a_paused_replay_goes_on_where_it_was(system: System) -> None:
    """Nothing more is written while it is paused; in the end each delivery was written, and has come, exactly once."""
    customer, events, window = _with_history(system, MANY)
    hook, before = customer.hook("*"), _replayed(system)
    replay = customer.replay(**window, rate=RATE)
    hook.endpoint.until(SOME, replay.id)
    replay.order("pause")
    paused = replay.settled("paused")
    assert SOME <= paused["progress"]["deliveries"] < MANY
    assert sum(hook.endpoint.came(replay.id).values()) == paused["progress"]["deliveries"]
    replay.order("resume")
    assert replay.settled()["progress"]["deliveries"] == _replayed(system) - before == MANY
    assert hook.endpoint.came(replay.id) == once(events)


def test_a_cancelled_replay_sends_nothing_more(system: System) -> None:
    """What it has written and not sent ends as cancelled; it never goes on."""
    customer, _, window = _with_history(system, MANY)
    hook = customer.hook("*")
    replay = customer.replay(**window, rate=RATE)
    hook.endpoint.until(SOME, replay.id)
    replay.order("cancel")
    shown = replay.settled("cancelled")
    came = hook.endpoint.came(replay.id)
    assert SOME <= sum(came.values()) == shown["statuses"]["delivered"] < MANY
    assert set(came.values()) == {1}
    with pytest.raises(Refused, match="cancelled"):
        replay.order("resume")


def test_what_waits_for_its_next_attempt_is_called_off_too(system: System) -> None:
    """A delivery of a cancelled replay has no further attempt: it ends as cancelled, and not by a failure."""
    customer, _, window = _with_history(system, MANY)
    hook = customer.hook("*")
    hook.endpoint.answer(Script(status=503))
    replay = customer.replay(**window, rate=RATE)
    hook.endpoint.tried()
    replay.order("cancel")
    shown = replay.settled("cancelled")
    assert 0 < shown["statuses"]["cancelled"] == shown["progress"]["deliveries"] < MANY


def test_two_replays_run_side_by_side(system: System) -> None:
    """Neither waits for the other's end, and each sends its own deliveries of the same events."""
    customer, events, window = _with_history(system, MANY // 2)
    hooks = customer.hook("*"), customer.hook("*")
    replays = [customer.replay(**window, webhooks=[hook.id], rate=RATE) for hook in hooks]
    both = customer.replay(**window, rate=RATE)
    for replay in (*replays, both):
        replay.settled()
    for hook, own in zip(hooks, replays, strict=True):
        assert hook.endpoint.came(own.id) == hook.endpoint.came(both.id) == once(events)
    times = [[got.at for got in hook.endpoint.got(own.id)] for hook, own in zip(hooks, replays, strict=True)]
    assert max(map(min, times)) < min(map(max, times))


def test_a_key_reaches_its_own_tenant_alone(system: System) -> None:
    """Another tenant's events, webhooks and replays are as if they did not exist; only an admin may start one."""
    customer, events, window = _with_history(system)
    stranger, hook = Customer.new(system), customer.hook("*")
    theirs = stranger.hook("*")
    replay = Replay.ordered(customer.admin, **window)
    replay.settled()
    assert hook.endpoint.came(replay.id) == once(events)
    assert theirs.endpoint.came(replay.id) == {}
    assert replay.show()["tenant"] == customer.tenant
    for what in ("pause", "resume", "cancel"):
        with pytest.raises(Refused, match="no such replay"):
            Replay(stranger.admin, replay.id, {}).order(what)
    with pytest.raises(Refused, match="no such replay"):
        Replay(stranger.admin, replay.id, {}).show()
    with pytest.raises(Refused, match="no such tenant"):
        Replay.ordered(stranger.admin, tenant=customer.tenant, **window)
    with pytest.raises(Refused, match=hook.id):
        stranger.replay(**window, webhooks=[hook.id])
    assert _listed(stranger.admin) == []
    assert _listed(customer.admin) == [replay.id]
    assert replay.id in _listed(Rest(system.url, system.key))
    manager = customer.admin.with_key(Rest(system.url, system.key).make_key(customer.tenant, "manager"))
    with pytest.raises(Refused, match="admin"):
        Replay.ordered(manager, **window)


def test_every_order_is_in_the_audit_record(system: System) -> None:
    """Who started, paused, resumed and cancelled it."""
    customer, _, window = _with_history(system, MANY)
    hook = customer.hook("*")
    replay = customer.replay(**window, rate=RATE)
    hook.endpoint.until(1, replay.id)
    for what in ("pause", "resume", "cancel"):
        replay.order(what)
    replay.until("cancelled")
    made = ["createReplay", "pauseReplay", "resumeReplay", "cancelReplay"]
    eventually(lambda: _audited(customer, replay.id) == made, lambda: str(_audited(customer, replay.id)))


def test_what_would_do_nothing_is_refused(system: System) -> None:
    """An empty window, an unknown or an inactive webhook, a rate above the limit: each in words that tell the way."""
    customer, _, window = _with_history(system)
    hook = customer.hook("*")
    hook.act("deactivate")
    for asked, words in (
        ({**window, "until": window["since"]}, "before|after|empty"),
        ({**window, "webhooks": ["wh_nobody"]}, "wh_nobody"),
        ({**window, "webhooks": [hook.id]}, "webhooks activate"),
        ({**window, "rate": MOST_RATE + 1}, f"{MOST_RATE:g}"),
        ({**window, "target": {"url": "http://10.0.0.1/"}}, "target|url|address"),
    ):
        with pytest.raises(Refused, match=words):
            customer.replay(**asked)
    clinic = Customer.new(system, "monithq")
    with pytest.raises(Refused, match=r"no\.such\.type"):
        clinic.replay(**window, types=["no.such.type"])


def test_what_retention_has_taken_is_told(system: System) -> None:
    """A gap in the window: the plan and the answer to the order say it; what is left of the window is replayed.

    Of partitions that are empty by then it is not said: by its age nothing of the last minutes is gone.
    """
    customer, _, window = _with_history(system, 2)
    recorded(system)
    taken = ends(system, topics.EVENTS)
    after = customer.send("order.paid", "order.paid")
    system.routed()
    recorded(system)
    gone = [TopicPartition(topics.EVENTS, number, end) for number, end in taken.items()]
    for done in system.kafka.delete_records(gone).values():
        done.result(10)
    hook, window = customer.hook("*"), {**window, "until": boundary()}
    planned = customer.plan(**window)
    assert planned["deliveries"] == len(after)
    there = {number for number, end in ends(system, topics.EVENTS).items() if end > taken[number]}
    assert set(planned["gap"]["partitions"]) == {number for number in there if taken[number]}
    replay = customer.replay(**window)
    assert replay.answer["gap"] == planned["gap"]
    replay.settled()
    assert hook.endpoint.came(replay.id) == once(after)
    offsets = [{"partition": number, "from": 0, "to": end} for number, end in taken.items() if end]
    with pytest.raises(Refused, match="Retention"):
        customer.replay(offsets=offsets)


def _replayed(system: System) -> int:
    """Deliveries that replays have written."""
    return sum(ends(system, topics.DELIVERIES_REPLAY).values())


def _listed(owner: Rest) -> list[str]:
    return [one["id"] for one in owner._ask("GET", "/v1/replays")["items"]]


def _audited(customer: Customer, replay: str) -> list[str]:
    """What was done to the replay, oldest first."""
    items = customer.admin._ask("GET", "/v1/audit")["items"]
    return [one["action"] for one in reversed(items) if one["target"] == replay]
