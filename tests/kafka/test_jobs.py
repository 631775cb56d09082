"""Replays at work: what is written, what is noted when, and who answers for an order."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from pipeline.flow.history import Status
from pipeline.flow.replay import Ordered, Outcome, Replay, Span, State
from pipeline.kafka import job, reading
from pipeline.kafka.metrics import count_replays
from pipeline.kafka.topics import REPLAY_PROGRESS, REPLAYS
from pipeline.workers.replaying import share_of
from tests.kafka.replaying import ORDER, TO, World, event, every, window, written
from tests.workers.parts import CODEC, NOW_MS

pytestmark = pytest.mark.replay
SLOW = replace(ORDER, rate=20.0)
DELIVERED, FAILED, PENDING = (Status.DELIVERED,), (Status.FAILED,), (Status.PENDING,)


def ordered(how: Ordered, of: Replay = ORDER) -> Replay:
    return replace(of, ordered=how, updated_ms=NOW_MS + 1)


async def test_the_whole_window_once() -> None:
    """Every event of the window goes to every webhook exactly once; then it is done, and the order may be passed."""
    world = World(window(), ("wh_1", "wh_2"))
    await world.give(ORDER)
    await world.ended()
    assert Counter(world.sent) == Counter(every(("wh_1", "wh_2")))
    told = world.progress
    assert (told.state, told.events, told.deliveries, told.unreadable) == (State.DONE, 20, 40, 0)
    assert told.bytes == 2 * sum(len(one.value or b"") for one in world.records), "as a plan counts them"
    assert all(one.next == one.end for one in told.partitions)
    assert (world.offsets.floor, world.offsets.unfinished, told.ended_ms) == (1, {}, NOW_MS)


async def test_nothing_is_noted_before_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker has not reported a delivery no progress names an offset beyond its event."""
    monkeypatch.setattr(job, "_TELL_S", 0.0)
    monkeypatch.setattr(reading, "_NOTE_S", 0.0)
    world = World(window())
    world.broker.holds = frozenset({TO})
    await world.give(ORDER)
    await world.until(lambda: bool(world.sent))
    since = time.monotonic()
    await world.until(lambda: time.monotonic() - since > 0.5)
    assert {one.next for one in world.progress.partitions} == {0}
    world.broker.holds = frozenset()
    world.broker.report()
    await world.ended()
    assert world.progress.state is State.DONE


@pytest.mark.parametrize("dies", range(1, 46, 2))
async def test_killed_anywhere_it_leaves_no_gap(dies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the record that it dies at, the next process goes on: nothing is missing, and each count is exact."""
    monkeypatch.setattr(job, "_TELL_S", 0.0)
    monkeypatch.setattr(reading, "_NOTED_TOGETHER", 3)
    world = World(window(), ("wh_1", "wh_2"))
    world.broker.dies = dies
    await world.give(ORDER)
    await world.until(lambda: world.broker.dead or not world.doing.tasks)
    await world.kill()
    world.broker.dies = None
    await world.give(ORDER)
    await world.ended()
    assert set(world.sent) == every(("wh_1", "wh_2"))
    told = world.progress
    assert (told.state, told.events, told.deliveries) == (State.DONE, 20, 40)


async def test_a_partition_that_goes_takes_its_order_along() -> None:
    """Within a moment the job has stopped, its progress is durable, and the order waits for whoever comes next."""
    world = World(window())
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 8)
    since = time.monotonic()
    world.offsets.close()
    await world.ended()
    assert time.monotonic() - since < 2
    told, so_far = world.progress, Counter(world.sent)
    assert (told.state, told.deliveries, world.offsets.floor) == (State.RUNNING, len(world.sent), 0)
    world.restart()
    await world.give(replace(SLOW, rate=None))
    await world.ended()
    assert Counter(world.sent) == Counter(every()), so_far


@pytest.mark.parametrize("how", ["lost", "stood still"])
async def test_a_lost_partition_is_not_written_for(how: str) -> None:
    """Its progress is another's to write by then; so it may be after this process has stood still for long."""
    world = World(window())
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 8)
    told = [one for one in world.broker.written if one.topic == REPLAY_PROGRESS]
    world.offsets.lost = how == "lost"
    if how == "stood still":
        world.offsets.pulse.until = 0.0
        assert not world.offsets.pulse.beat()
    world.offsets.close()
    await world.ended()
    assert [one for one in world.broker.written if one.topic == REPLAY_PROGRESS] == told
    assert world.offsets.floor == 0


async def test_a_replay_outlives_a_short_standstill() -> None:
    """The partition is closed, and open again before the job has wound up: nobody else reads the order, so it goes on.

    What it tells from then on is its own again.
    """
    world = World(window())
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 3)
    world.broker.holds = frozenset({TO})
    sent = len(world.sent)
    await world.until(lambda: len(world.sent) > sent, "a report that it waits for")
    pulse = world.offsets.pulse
    pulse.until = 0.0
    assert not pulse.beat()
    world.offsets.close()
    since = time.monotonic()
    await world.until(lambda: time.monotonic() - since > 2 * reading.LOOK_S, "it has seen that")
    assert world.doing.tasks, "it winds up"
    pulse.confirmed()
    world.offsets.closed, world.broker.holds = False, frozenset()
    world.broker.report()
    await world.ended()
    assert set(world.sent) == every()
    assert (world.progress.state, world.progress.deliveries, world.offsets.floor) == (State.DONE, 20, 1)


async def test_pause_and_resume() -> None:
    """A pause stops it where it is and says so; what comes after it is written once, and both orders are passed."""
    world = World(window())
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 5)
    await world.give(ordered(Ordered.PAUSED, SLOW))
    await world.ended()
    paused = len(world.sent)
    assert (world.progress.state, world.progress.deliveries, world.offsets.floor) == (State.PAUSED, paused, 2)
    assert paused < 20
    await world.give(replace(ORDER, updated_ms=NOW_MS + 2))
    await world.ended()
    assert Counter(world.sent) == Counter(every())
    assert (world.progress.state, world.progress.deliveries, world.offsets.floor) == (State.DONE, 20, 3)


async def test_cancel_while_it_runs() -> None:
    """It ends where it is and never goes on; counts stay."""
    world = World(window())
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 5)
    await world.give(ordered(Ordered.CANCELLED, SLOW))
    await world.ended()
    told, sent = world.progress, len(world.sent)
    assert (told.state, told.deliveries, told.ended_ms) == (State.CANCELLED, sent, NOW_MS)
    await world.give(replace(ORDER, updated_ms=NOW_MS + 2))
    await world.ended()
    assert (len(world.sent), world.progress) == (sent, told)


async def test_an_order_that_is_out_of_date_does_nothing() -> None:
    """Read again after a restart, an order that was paused or cancelled since does not run for a moment."""
    world = World(window())
    world.view.put(REPLAYS, "rpl_1", CODEC.encode_replay(ordered(Ordered.CANCELLED)))
    await world.read(CODEC.encode_replay(ORDER))
    await world.ended()
    assert (world.sent, world.offsets.floor, world.broker.written) == ([], 1, [])


async def test_an_order_that_cannot_be_read_fails_and_says_so() -> None:
    """It is nobody's to mend, and stands in nobody's way."""
    world = World(window())
    await world.give(None, raw=b"\x00\x00\x00\x00\x07nonsense")
    await world.ended()
    assert (world.progress.state, world.offsets.floor) == (State.FAILED, 1)
    assert "cannot be read" in (world.progress.error or "")


async def test_a_webhook_that_takes_nothing_holds_up_nobody_else() -> None:
    """While one's breaker is open all others get everything; then it gets its own, and nothing comes twice."""
    one, other = "wh_1", next(f"wh_{n}" for n in range(9) if share_of(f"acme/wh_{n}", 2) != share_of("acme/wh_1", 2))
    world = World(window(), (one, other))
    world.shown(one, int(time.time() * 1000) + 2_500)
    await world.give(ORDER)
    await world.until(lambda: len(world.sent) >= 20, "the other has all")
    assert {webhook for _, webhook in world.sent} == {other}
    await world.until(lambda: (world.waiting or "").startswith(f"webhook {one} takes no more"))
    await world.ended()
    assert Counter(world.sent) == Counter(every((one, other)))
    assert (world.progress.events, world.progress.deliveries, len(world.readers)) == (20, 40, 2)


async def test_a_webhook_that_was_named_is_waited_for() -> None:
    """Switched off meanwhile it misses nothing: the replay says what switches it on, and goes on then."""
    world = World(window())
    world.subscribe("wh_1", active=False)
    named = replace(ORDER, webhooks=("wh_1",))
    await world.give(named)
    await world.until(lambda: "webhooks activate acme wh_1" in (world.waiting or ""))
    assert world.sent == []
    world.subscribe("wh_1")
    await world.ended()
    assert set(world.sent) == every()


async def test_a_webhook_that_is_switched_off_in_the_middle_misses_nothing() -> None:
    """Also what was being matched at that very moment."""
    world = World(window())

    def switched_off() -> None:
        world.meanwhile = lambda: None
        world.subscribe("wh_1", active=False)

    world.meanwhile = switched_off
    await world.give(replace(ORDER, webhooks=("wh_1",)))
    await world.until(lambda: "is inactive" in (world.waiting or ""))
    world.subscribe("wh_1")
    await world.ended()
    assert Counter(world.sent) == Counter(every())


async def test_who_holds_it_up_is_said() -> None:
    """While too much waits to be let in nothing is written, and the reason is in the progress."""
    world = World(window(), held="9 deliveries of replays wait")
    await world.give(ORDER)
    await world.until(lambda: world.waiting == world.held)
    assert world.sent == []
    world.held = None
    await world.ended()
    assert (world.progress.waiting, world.progress.deliveries) == (None, 20)


async def test_nothing_is_judged_before_the_log_is_new_enough() -> None:
    """An outcome is asked for: until the log has read what there was, the job waits and says for what."""
    world = World(window(), lacking=["the log lacks 4 records"] * 2)
    world.known = {"evt-0": {"wh_1": DELIVERED}, "evt-1": {"wh_1": FAILED}, "evt-2": {"wh_1": (*FAILED, *PENDING)}}
    await world.give(replace(ORDER, outcome=Outcome.FAILED))
    await world.ended()
    assert world.sent == [("evt-1", "wh_1")]
    assert not world.lacking


async def test_it_is_not_over_before_what_it_wrote_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All has been written: it says what it still waits for, another process too; a cancelling ends that at once."""
    monkeypatch.setattr(job, "_TELL_S", 0.0)
    monkeypatch.setattr(job, "_AGAIN_S", 0.01)
    world = World(window(), unsettled=["20 deliveries wait"])
    await world.give(ORDER)
    await world.until(lambda: world.waiting == "20 deliveries wait")
    assert (world.progress.state, world.progress.deliveries, world.offsets.floor) == (State.RUNNING, 20, 0)
    await world.kill()
    await world.give(ORDER)
    await world.until(lambda: bool(world.doing.tasks) and world.waiting == "20 deliveries wait")
    world.unsettled.clear()
    await world.ended()
    assert (world.progress.state, len(world.sent), world.offsets.floor) == (State.DONE, 20, 1)


async def test_what_waits_to_be_settled_is_cancelled() -> None:
    """Nobody waits for an order that somebody has cancelled."""
    world = World(window(), unsettled=["20 deliveries wait"])
    await world.give(ORDER)
    await world.until(lambda: len(world.sent) == 20)
    await world.give(ordered(Ordered.CANCELLED))
    await world.ended()
    assert (world.progress.state, world.offsets.floor) == (State.CANCELLED, 2)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(Outcome.NEVER_ROUTED, {2, 3}), (Outcome.MISSED, {1, 2, 3}), (Outcome.ALL, {0, 1, 2, 3})],
)
async def test_an_outcome_is_each_webhooks_own(outcome: Outcome, expected: set[int]) -> None:
    """What has become of an event elsewhere does not matter."""
    world = World(window(4))
    world.known = {"evt-0": {"wh_1": DELIVERED}, "evt-1": {"wh_1": FAILED}, "evt-2": {"wh_9": DELIVERED}}
    await world.give(replace(ORDER, outcome=outcome, window=(Span(0, 0, 4),)))
    await world.ended()
    assert {int(name[4:]) for name, _ in world.sent} == expected


async def test_only_what_the_order_means() -> None:
    """Another tenant's events and other types stay where they are, whatever their headers say of them."""
    mine = (("tenant", b"acme"), ("type", b"order.paid"))
    lies = [written(0, 0, event(0, "other"), mine), written(0, 1, event(1, kind="user.made"), mine)]
    told = [written(0, 2, event(2, "other"), (("tenant", b"other"), ("type", b"order.paid")))]
    world = World([*lies, *told, written(0, 3, b"no event"), written(0, 4, event(4))])
    await world.give(replace(ORDER, types=("order.*",), window=(Span(0, 0, 6),)))
    await world.ended()
    assert world.sent == [("evt-4", "wh_1")]
    assert (world.progress.events, world.progress.unreadable) == (5, 1)


async def test_what_a_failed_reading_had_in_hand_is_read_again() -> None:
    """Kafka did not answer in the middle of a batch: nothing of it is passed over."""
    world = World(window(), trouble=["no answer"] * 2)
    await world.give(ORDER)
    await world.ended()
    assert Counter(world.sent) == Counter(every())


async def test_what_retention_has_taken_is_said() -> None:
    """The rest goes, and the replay has failed with the number of what is missing."""
    world = World(window(), gone=3)
    await world.give(ORDER)
    await world.ended()
    assert set(world.sent) == every()
    assert world.progress.state is State.FAILED
    assert (world.progress.error or "").startswith("3 records of the window were removed")


async def test_two_share_fairly() -> None:
    """Two replays to one webhook, begun together, are never far apart."""
    world = World(window(40), ("wh_1",))
    whole = (Span(0, 0, 40),)
    await world.give(replace(ORDER, window=whole))
    await world.give(replace(ORDER, id="rpl_2", window=whole), "rpl_2")
    await world.until(lambda: len(world.sent) >= 30)
    made = [CODEC.delivery(one.value) for one in world.broker.written if one.topic == TO]
    of = Counter(one.replay for one in made)
    assert abs(of["rpl_1"] - of["rpl_2"]) <= 6, of
    world.offsets.close()
    await world.ended()


async def test_a_long_replay_is_not_taken_for_a_stuck_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its readers move the order counts as begun just now; once one hangs it does not, and is found."""
    monkeypatch.setattr(job, "_STUCK_S", 0.3)
    world = World(window())
    world.offsets.pulse.at = 100.0
    await world.give(SLOW)
    await world.until(lambda: bool(world.sent))
    world.offsets.pulse.at = 200.0
    await world.until(lambda: world.offsets.unfinished.get(0) == 200.0)
    await world.ended()
    world.hangs = True
    await world.give(replace(SLOW, id="rpl_2"), "rpl_2")
    since = time.monotonic()
    await world.until(lambda: time.monotonic() - since > 1)
    world.offsets.pulse.at = 300.0
    since = time.monotonic()
    await world.until(lambda: time.monotonic() - since > 0.5)
    assert world.offsets.unfinished[1] == 200.0
    await world.kill()


async def test_what_replays_do_is_measured() -> None:
    """How many are at work, what they have written, and what waits to be let in."""
    world, registry = World(window()), CollectorRegistry()
    count_replays(registry, world.jobs, cast("Any", SimpleNamespace(waiting=7)), world.parts)
    await world.give(SLOW)
    await world.until(lambda: len(world.sent) > 2)
    assert registry.get_sample_value("pipeline_replays") == 1
    await world.ended()
    names = ("pipeline_replays", "pipeline_replay_deliveries", "pipeline_replay_backlog")
    assert [registry.get_sample_value(name) for name in names] == [0, 20, 7]
