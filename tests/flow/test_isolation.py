"""One endpoint's lane, in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.isolation import IN_FLIGHT, Lane
from pipeline.flow.retry import Ladder
from tests.flow.lane_world import LADDER, Sent, World, hops

NOW = 1_000_000.0
MINUTE, HOUR = 60_000.0, 3_600_000.0
TIER_MS = LADDER.tiers[0].wait_ms


def lane(rate: float | None = None, cap: int = IN_FLIGHT) -> Lane[Sent]:
    return Lane(TIER_MS, cap, rate)


def healthy(lasts_ms: float) -> World:
    return World(lane(), lambda _: (lasts_ms, False))


def test_what_an_endpoint_can_take_goes_at_once() -> None:
    """A healthy endpoint's deliveries neither wait nor cost a write."""
    world = healthy(50)
    world.arrive(every_ms=10, number=2_000)
    world.run(NOW + MINUTE)
    assert len(world.sent) == 2_000
    assert max(one.sent_ms - one.came_ms for one in world.sent if one.sent_ms) < 100
    assert not any(one.waits for one in world.sent)


def test_never_more_at_a_time_than_the_cap() -> None:
    """However many come at once, an endpoint has no more requests at a time than its cap."""
    world = World(lane(cap=3), lambda _: (1_000, False))
    world.arrive(every_ms=0, number=50)
    most = 0
    for step in range(200):
        world.run(NOW + step * 100)
        most = max(most, world.lane.in_flight)
    assert most == 3


def test_an_unknown_endpoint_is_tried_carefully() -> None:
    """Of an endpoint that has never answered two requests are under way, not sixteen."""
    world = World(lane(), lambda _: (30_000, True))
    world.arrive(every_ms=0, number=100)
    world.run(NOW + 1)
    assert world.lane.in_flight == 2


def test_a_burst_waits_in_memory_and_is_sent_in_order() -> None:
    """A burst that the endpoint works off within the smallest tier costs no write."""
    world = healthy(50)
    world.arrive(every_ms=0, number=400)
    world.look()
    world.run(NOW + 10_000)
    assert [one.number for one in world.sent] == list(range(400))
    assert not any(one.waits for one in world.sent)


def test_a_limited_endpoint_gets_its_rate_in_slot_order() -> None:
    """A backlog at a rate of 10/s: 10/s within 5 % in each minute, in order, few hops, hardly anything in memory."""
    world = World(lane(rate=10), lambda _: (30, False))
    world.arrive(every_ms=0.1, number=20_000)
    world.look()
    world.run(NOW + 11 * MINUTE)
    for minute in range(1, 11):
        within = [
            one for one in world.sent if NOW + minute * MINUTE <= (one.sent_ms or 0) < NOW + (minute + 1) * MINUTE
        ]
        assert 570 <= len(within) <= 630
    numbers = [one.number for one in world.sent]
    assert numbers == sorted(numbers)
    walked = [hops(wait) for one in world.sent for wait in one.waits]
    assert sum(walked) / len(walked) <= 8
    assert max(walked) <= 12
    assert world.most_held <= 110


def test_a_dead_endpoint_costs_a_few_hops() -> None:
    """Ten thousand deliveries of an endpoint that never answers: no memory, and a few writes each in six hours."""
    world = World(lane(), lambda _: (15_000, True))
    world.arrive(every_ms=10, number=10_000)
    world.look()
    world.run(NOW + 110_000)
    assert len(world.lane.held) <= 1
    world.run(NOW + 6 * HOUR)
    assert len(world.sent) >= 6 * 3_600 / 15 - 30
    assert world.lane.in_flight == 1


def test_the_breaker_opens_and_lets_one_try() -> None:
    """Half of twenty requests failed: nothing goes for a while, then one at a time until one succeeds."""
    well = [False]
    world = World(lane(), lambda _: (5, not well[0]))
    world.arrive(every_ms=20, number=3_000)
    world.look()
    world.run(NOW + 20_000)
    assert len(world.sent) == 20
    until = world.lane.breaker.until_ms
    world.run(until + 1_000)
    assert len(world.sent) == 21
    assert world.lane.breaker.until_ms - until >= 2 * 30_000 - 1_000
    well[0] = True
    world.run(NOW + 20 * MINUTE)
    assert not world.lane.breaker.trying
    assert len(world.sent) == 3_000


def test_those_with_slots_go_before_those_without() -> None:
    """Who comes in or after its slot goes before those who have none."""
    world = World(lane(cap=1), lambda _: (100, False))
    one = world.lane
    assert one.enter(NOW) == 0
    fresh = one.enter(NOW)
    one.hold(fresh, Sent(1, NOW))
    due = one.enter(NOW, slot_ms=NOW - 10)
    one.hold(due, Sent(2, NOW))
    one.leave(NOW + 100, NOW, 100, failed=False)
    first = one.next(NOW + 100)
    assert first is not None
    assert first.number == 2


def test_a_recovered_endpoint_gets_new_events_at_once() -> None:
    """What was reserved while it was dead does not hold up what is new once it is well."""
    well = [False]
    world = World(lane(), lambda _: (20, False) if well[0] else (15_000, True))
    world.arrive(every_ms=10, number=5_000)
    world.look()
    world.run(NOW + 2 * MINUTE)
    assert world.lane.reserved_until_ms > NOW + HOUR
    well[0] = True
    world.run(NOW + 20 * MINUTE)
    world.sent.clear()
    begun = world.now
    world.arrive(every_ms=100, number=50)
    world.run(begun + 10_000)
    new = [one for one in world.sent if one.came_ms >= begun]
    assert len(new) == 50
    assert max((one.sent_ms or 0) - one.came_ms for one in new) < 1_000


def test_an_endpoint_that_stood_still_is_soon_at_its_old_speed() -> None:
    """A minute of silence, all of it timed out: what comes after it goes at once, and little has to wait for long."""
    back = NOW + 2 * MINUTE
    world = World(lane(cap=200), lambda now: (1_500, False) if now < NOW + MINUTE or now >= back else (60_000, True))
    world.arrive(every_ms=50, number=20 * 600)
    world.look()
    world.run(NOW + 10 * MINUTE)
    after = [one for one in world.sent if one.came_ms > back + MINUTE]
    assert len(after) > 20 * 400
    assert max((one.sent_ms or 0) - one.came_ms for one in after) < 10_000
    world.run(NOW + 15 * MINUTE)
    assert len(world.sent) == 20 * 600


def test_a_slow_moment_is_soon_over_for_those_who_wait_too() -> None:
    """Ten slow seconds of an endpoint give slots minutes ahead: who has one goes soon after it is quick again."""
    well = NOW + 10_000
    world = World(lane(), lambda now: (20, False) if now >= well else (3_000, False))
    world.arrive(every_ms=10, number=1_000)
    world.look()
    world.run(well)
    assert world.lane.reserved_until_ms > NOW + 3 * MINUTE
    world.run(well + MINUTE + 10_000)
    assert len(world.sent) == 1_000


def test_a_guess_is_as_old_as_the_ladder_is_long() -> None:
    """A sick endpoint's slots are looked at again after twelve of the smallest tier, however long that is."""
    short: Lane[Sent] = Lane(200)
    ladder = Ladder.parse("retry-5s=200ms retry-20s=600ms retry-60s=2400ms retry-3m=9s")
    short.enter(NOW)
    assert short.sleep_ms(NOW, NOW + HOUR, 0, ladder) == 9_000
    short.leave(NOW + 100, NOW, 100, failed=True)
    assert short.sleep_ms(NOW, NOW + HOUR, 0, ladder) == 12 * 200


def test_a_slow_endpoint_costs_few_writes() -> None:
    """Ten thousand at once for one that takes three seconds: it is never idle, and an estimate is worth one tier."""
    world = World(lane(), lambda _: (3_000, False))
    world.arrive(every_ms=1, number=10_000)
    world.look()
    world.run(NOW + HOUR)
    assert len(world.sent) == 10_000
    assert (world.sent[-1].sent_ms or 0) < NOW + 1.1 * 10_000 * 3_000 / IN_FLIGHT
    assert sum(hops(wait) + 1 for one in world.sent for wait in one.waits) / 10_000 < 30


def test_another_process_goes_on_behind_what_was_reserved() -> None:
    """A new owner of a partition does not begin at now."""
    first = lane(rate=10)
    for _ in range(1_000):
        first.enter(NOW)
    second = lane(rate=10)
    second.resume(first.reserved_until_ms, 10.0, 0.0)
    assert second.enter(NOW) >= first.reserved_until_ms


def test_a_new_generation_begins_anew() -> None:
    """An endpoint that was edited or activated owes nothing for what it was."""
    world = World(lane(), lambda _: (5, True))
    world.arrive(every_ms=5, number=100)
    world.run(NOW + 5_000)
    assert world.lane.enter(world.now) > 0
    world.look()
    world.lane.renew()
    assert world.lane.enter(world.now) == 0


@given(st.floats(5_000, 1e9), st.integers(100, 10_000))
def test_sleep_never_misses_a_promised_slot(ahead_ms: float, tier_ms: int) -> None:
    """Whoever waits on the ladder for a slot comes back before it, or sleeps the hour that is the most."""
    ahead_ms += tier_ms * 1.1
    wait = Lane[Sent](tier_ms, rate=10.0).sleep_ms(NOW, NOW + ahead_ms, 0, LADDER)
    assert wait % tier_ms == 0
    assert wait <= HOUR
    assert wait <= ahead_ms
    assert wait >= ahead_ms - tier_ms * 1.06 or wait > HOUR - tier_ms


@given(st.floats(TIER_MS * 1.1, 1e9), st.integers(0, 100))
def test_an_estimated_slot_is_worth_one_tier(ahead_ms: float, hop: int) -> None:
    """It is looked at again half-way at the latest, but for the smallest tier, which never misses it."""
    wait = lane().sleep_ms(NOW, NOW + ahead_ms, hop, LADDER)
    assert hops(wait) == 1
    assert wait <= max(ahead_ms / 2, TIER_MS)
    assert wait * 6 > min(ahead_ms / 2, HOUR)


@pytest.mark.parametrize("rate", [None, 2.0])
def test_everything_is_sent_at_last(rate: float | None) -> None:
    """Whatever an endpoint does for an hour, all that came is sent when it is well."""
    world = World(lane(rate=rate), lambda now: (15_000, True) if now < NOW + HOUR / 4 else (50, False))
    world.arrive(every_ms=500, number=3_000)
    world.look()
    world.run(NOW + 6 * HOUR)
    assert {one.number for one in world.sent} == set(range(3_000))
