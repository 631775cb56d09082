"""What is written to `deliveries-replay` reaches its endpoint, through the running stages."""

from __future__ import annotations

import datetime as dt
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from pipeline.flow.deliver import Delivery, Origin
from pipeline.flow.event import Event
from pipeline.flow.replay import Ordered, Replay
from pipeline.flow.throttle import MOST
from pipeline.kafka import topics
from tests.e2e import stages
from tests.e2e.flow import WITHIN_S, Flow, Hook, _variables
from tests.leashed import leashed, told_to_stop

pytestmark = [pytest.mark.kafka, pytest.mark.replay]


def _hook(flow: Flow) -> Hook:
    """A webhook that the sender knows: it has got an event. What is written here names no offset to wait for."""
    hook = flow.hook()
    flow.send(Event("live", hook.tenant.id, "order.paid", time.time_ns() // 1_000_000, "{}"))
    flow.accepted(hook)
    return hook


def _replayed(flow: Flow, hook: Hook, number: int, replay: str) -> Delivery:
    """A delivery to the hook, written as the replayer writes them."""
    ident, webhook = f"msg_{number:026d}", hook.subscription
    now = time.time_ns() // 1_000_000
    origin = Origin("events", 0, 0, 0)
    named = ident, webhook.tenant, webhook.webhook, f"e{number}", "order.paid", None, now
    made = Delivery(*named, b"{}", 1, origin, replay, f"msg_{number:025d}f")
    flow._write(topics.DELIVERIES_REPLAY, made.path, flow.codec.encode_delivery(made))
    return made


def _order(flow: Flow, ordered: Ordered) -> Replay:
    """An order, written as the API writes them."""
    order = Replay(f"rpl_{ordered:022}", None, ordered, (), updated_ms=time.time_ns() // 1_000_000)
    flow._write(topics.REPLAYS, order.id, flow.codec.encode_replay(order))
    return order


def test_a_replay_s_deliveries_are_sent(flow: Flow) -> None:
    """Each arrives once, signed like any other, with the replay's id and the first delivery's among its headers."""
    hook, replay = _hook(flow), _order(flow, Ordered.RUNNING).id
    made = [_replayed(flow, hook, number, replay) for number in range(20)]
    live, *got = flow.accepted(hook, len(made) + 1)
    told = {(one.headers["webhook-id"], one.headers["webhook-first-id"]) for one in got}
    assert told == {(one.id, one.first) for one in made}
    assert {one.headers["webhook-replay-id"] for one in got} == {replay}
    assert len(got) == len(made)
    assert not {"webhook-replay-id", "webhook-first-id"} & set(live.headers)


def test_what_a_cancelled_replay_has_written_is_not_sent(flow: Flow) -> None:
    """It ends as skipped, without a request; what another has written arrives."""
    hook = _hook(flow)
    cancelled, running = _order(flow, Ordered.CANCELLED).id, _order(flow, Ordered.PAUSED).id
    made = [_replayed(flow, hook, 100 + number, cancelled) for number in range(10)]
    other = _replayed(flow, hook, 110, running)
    _, got = flow.accepted(hook, 2)
    assert got.headers["webhook-id"] == other.id
    found = flow.attempts_of(hook, len(made) + 2)
    assert {one["delivery"]: one["verdict"] for one in found if one["event"] != "live"} == {
        **dict.fromkeys((one.id for one in made), "skipped"),
        other.id: "delivered",
    }


def test_events_are_rewound_by_hand(flow: Flow, tmp_path: Path) -> None:
    """A router of a group of its own routes events anew from a time on.

    A webhook that did not exist gets them; one that has them, from the same sender, gets nothing again.
    """
    old, since = flow.hook(), dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    for number in range(3):
        flow.send(Event(f"by-hand-{number}", old.tenant.id, "order.paid", time.time_ns() // 1_000_000, "{}"))
    flow.accepted(old, 3)
    new = flow.hook(tenant=old.tenant)
    run = stages.command("run", "router", "--group", f"tests-{old.tenant.id}", "--to", "deliveries-replay")
    run += ["--from", since.isoformat(), "--health-port", "0"]
    with leashed("by-hand", run, tmp_path, stages.bare(_variables(flow.settings), tmp_path)) as child:
        assert len(flow.accepted(new, 3)) == 3
        flow.deliveries.until(lambda one: one["webhook"] == old.subscription.webhook, 6)
        told_to_stop(child, 40)
    assert len(flow.accepted(old, 3)) == 3


def _rate(flow: Flow) -> float:
    """How many deliveries of replays a second the delay process lets in at most."""
    with urllib.request.urlopen(f"http://127.0.0.1:{flow.stages['delay'].port}/metrics", timeout=5) as answer:
        told = answer.read().decode()
    return float(next(line.split()[1] for line in told.splitlines() if line.startswith("pipeline_replay_rate ")))


def test_a_sender_that_is_behind_slows_replays_down(flow: Flow) -> None:
    """The running sender says on `clock` how far behind it is; while one says that it is far behind, less is let in."""
    clock = Consumer({"bootstrap.servers": flow.settings.bootstrap_servers, "group.id": "tests-clock"})
    producer = Producer({"bootstrap.servers": flow.settings.bootstrap_servers})
    clock.assign([TopicPartition(topics.CLOCK, 0, OFFSET_END)])
    said, until = list[int](), time.monotonic() + WITHIN_S
    while not said or _rate(flow) > MOST / 4:
        assert time.monotonic() < until
        producer.produce(topics.CLOCK, b"", headers=[("behind-ms", b"60000")])
        producer.flush(WITHIN_S)
        if (one := clock.poll(0.2)) is not None:
            headers: Any = one.headers() or ()
            said += [int(value) for name, value in headers if (name, value) != ("behind-ms", b"60000")]
    clock.close()
    assert max(said) < 60_000
