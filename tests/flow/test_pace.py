from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from pipeline.flow.health import EndpointState
from pipeline.flow.pace import AT_FIRST, LEAST, PART, Holding, Pace, Turns

pytestmark = pytest.mark.replay
NOW_MS = 1_767_225_600_000


def shown(
    at_ms: int, breaker_ms: int | None = None, reserved_ms: int | None = None, capacity: float | None = None
) -> EndpointState:
    return EndpointState(
        "acme", "wh_1", 1, breaker_until_ms=breaker_ms, reserved_until_ms=reserved_ms, capacity=capacity, time_ms=at_ms
    )


@dataclass
class Used:
    """A pace that is used as fast as it allows, on a clock of the test's."""

    pace: Pace = field(default_factory=Pace)
    now_s: float = 100.0
    state: EndpointState | None = None
    most: float | None = None
    taken: list[float] = field(default_factory=list)

    @property
    def now_ms(self) -> float:
        """By the broker's clock."""
        return NOW_MS + self.now_s * 1000

    def go(self, seconds: float) -> int:
        """How many go in so many seconds, looked at five times a second."""
        until_s, before = self.now_s + seconds, len(self.taken)
        while self.now_s < until_s:
            self.pace.look(self.now_s, self.now_ms, self.most, self.state)
            look_s = self.now_s + 0.2
            while not self.pace.stopped(self.now_ms) and self.pace.turns.next_s < look_s:
                self.taken.append(max(self.pace.take(self.now_s), self.now_s))
            self.now_s = look_s
        return len(self.taken) - before


def test_turns_come_at_the_rate_and_in_the_order_of_asking() -> None:
    """Ten a second are a tenth of a second apart, and of two who ask in turn each gets every other one."""
    turns, got = Turns(), dict[str, list[float]](a=[], b=[])
    for _ in range(3):
        got["a"].append(turns.take(50.0, 10))
        got["b"].append(turns.take(50.0, 10))
    first = got["a"][0]
    assert [round(at - first, 3) for at in got["a"]] == [0, 0.2, 0.4]
    assert [round(at - first, 3) for at in got["b"]] == [0.1, 0.3, 0.5]


def test_time_that_was_not_used_is_hardly_made_up_for() -> None:
    """After a minute of silence no more than a quarter of a second's turns are due at once."""
    turns = Turns()
    turns.take(0.0, 100)
    due = [at for _ in range(100) if (at := turns.take(60.0, 100)) <= 60.0]
    assert len(due) == 26


def test_a_webhook_is_begun_with_slowly_and_grows_as_it_is_used() -> None:
    """The first second brings few, the tenth many times as many; one that is not used does not grow."""
    used, idle = Used(), Pace()
    assert used.go(1) <= AT_FIRST * 1.5
    used.go(8)
    assert used.go(1) > AT_FIRST * 20
    for second in range(20):
        idle.look(second, NOW_MS, None, None)
    assert idle.rate == AT_FIRST


def test_at_most_a_part_of_the_webhooks_own_rate() -> None:
    """A webhook that allows 50 a second gets 40 of a replay, however long that goes."""
    used = Used(most=50)
    used.go(10)
    assert used.go(10) == pytest.approx(50 * PART * 10, rel=0.03)


def test_an_open_breaker_stops_it_until_it_closes() -> None:
    """Nothing is added while the breaker is open; then it goes on at a part of what the endpoint took before."""
    used = Used()
    used.go(8)
    used.state = shown(int(used.now_ms), breaker_ms=int(used.now_ms) + 30_000, capacity=20.0)
    assert used.go(29) == 0
    used.go(2)
    assert used.go(5) == pytest.approx(20 * PART * 5, rel=0.6)
    assert used.pace.rate < 40


def test_more_than_a_second_reserved_stops_it() -> None:
    """Live deliveries that come now would wait behind what it adds; less than a second is no queue."""
    used = Used()
    used.state = shown(int(used.now_ms), reserved_ms=int(used.now_ms) + 900, capacity=500.0)
    assert used.go(1) > 0
    used.state = shown(int(used.now_ms), reserved_ms=int(used.now_ms) + 6_000, capacity=500.0)
    assert used.go(4.8) == 0
    assert used.go(1) > 0


def test_each_signal_halves_what_the_endpoint_was_given_at_least() -> None:
    """Where live deliveries need most of what an endpoint takes, it comes down until both fit; never to nothing."""
    used = Used()
    used.go(10)
    rates = []
    for _ in range(20):
        used.state = shown(int(used.now_ms), reserved_ms=int(used.now_ms) + 1_200, capacity=100.0)
        used.go(0.4)
        rates.append(used.pace.rate)
    assert rates[0] <= 100 * PART * 1.1
    assert all(later <= max(before * 0.56, LEAST) for before, later in pairwise(rates))
    assert rates[-1] == LEAST


def test_what_is_said_twice_counts_once() -> None:
    """A state that was seen does not hold the pace down for ever: it grows again when the time is over."""
    used = Used()
    used.state = shown(int(used.now_ms), reserved_ms=int(used.now_ms) + 2_000, capacity=10.0)
    used.go(2)
    slow = used.pace.rate
    used.go(60)
    assert used.pace.rate > 10 * slow


def test_the_slowest_pace_grows_too() -> None:
    """One delivery in ten seconds is use enough."""
    used = Used(Pace(rate=LEAST))
    used.go(120)
    assert used.pace.rate > LEAST * 2


def test_a_share_that_holds_the_others_up_is_too_much() -> None:
    """Half of all time is, after a while; a tenth never is."""
    half, tenth = Holding(), Holding()
    for second in range(60):
        half.add(second, 0.5)
        tenth.add(second, 0.1)
    assert (half.too_much, tenth.too_much) == (True, False)
