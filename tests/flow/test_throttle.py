"""How replays are let in: evenly, and less while deliveries wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.throttle import LATE_MS, LEAST, MOST, Throttle

pytestmark = pytest.mark.replay

BEGAN = 50.0


def heard(throttle: Throttle, *behind_ms: float, since: float = BEGAN) -> Throttle:
    """What one sender says, once a second."""
    for second, said in enumerate(behind_ms, 1):
        throttle.heard(said, since + second)
    return throttle


def let_in(throttle: Throttle, seconds: float, since: float = BEGAN, pause_s: float = 0.02) -> list[int]:
    """How many go in each turn, when all that may go does."""
    turns = []
    for turn in range(int(seconds / pause_s)):
        now, gone = since + turn * pause_s, 0
        while throttle.left_ms(now) == 0:
            throttle.took()
            gone += 1
        turns.append(gone)
    return turns


def test_they_go_evenly() -> None:
    """As many as the rate says, in every stretch of time, and never many at once."""
    turns = let_in(Throttle(BEGAN), 4)
    assert sum(turns) == pytest.approx(4 * MOST, rel=0.02)
    assert max(turns) <= MOST * 0.02 + 1
    assert min(sum(turns[at : at + 5]) for at in range(1, len(turns) - 5, 5)) >= MOST * 0.1 * 0.9


def test_a_pause_is_not_made_up_for() -> None:
    """What was not let in for a while does not go all at once."""
    throttle = Throttle(BEGAN)
    assert let_in(throttle, 0.02, BEGAN + 4)[0] <= MOST * 0.05


def test_what_is_left_is_how_long_to_wait() -> None:
    """After as many milliseconds as it says, and not before, the next one goes."""
    throttle = Throttle(BEGAN, rate=100)
    throttle.took()
    left_ms = throttle.left_ms(BEGAN)
    assert left_ms == pytest.approx(10)
    assert throttle.left_ms(BEGAN + left_ms / 1000 * 0.9) > 0
    assert throttle.left_ms(BEGAN + left_ms / 1000 * 1.01) == 0


def test_it_halves_while_deliveries_wait() -> None:
    """For each second in which they have waited more than a second the rate is halved, down to a trickle."""
    throttle = heard(Throttle(BEGAN), LATE_MS + 1, LATE_MS + 1, LATE_MS + 1)
    assert throttle.rate == MOST / 8
    heard(throttle, *[LATE_MS + 1] * 30, since=BEGAN + 3)
    assert throttle.rate == LEAST


def test_what_is_said_counts_until_the_next_word() -> None:
    """A sender speaks about once a second: a second in which it has not spoken yet is not taken for a good one."""
    throttle, rates = Throttle(BEGAN), list[float]()
    for tenth in range(1, 60):
        if tenth % 14 == 0:
            throttle.heard(LATE_MS * 5, BEGAN + tenth / 10)
        throttle.left_ms(BEGAN + tenth / 10)
        rates.append(throttle.rate)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < MOST / 8


def test_it_grows_back() -> None:
    """When they no longer wait it comes back step by step, and never beyond the most."""
    throttle = heard(Throttle(BEGAN), *[LATE_MS * 9] * 20, *[0.0] * 6)
    assert LEAST < throttle.rate < MOST / 2
    heard(throttle, *[0.0] * 30, since=BEGAN + 26)
    assert throttle.rate == MOST


def test_a_second_of_waiting_is_none() -> None:
    """Up to a second is as it should be."""
    assert heard(Throttle(BEGAN), LATE_MS, LATE_MS).rate == MOST


def test_the_one_who_is_behind_counts() -> None:
    """With several senders the one whose deliveries wait longest decides."""
    throttle = Throttle(BEGAN)
    for second in range(1, 4):
        for behind_ms in (0, LATE_MS * 3, 0):
            throttle.heard(behind_ms, BEGAN + second)
    assert throttle.rate == MOST / 4


def test_silence_is_no_permission() -> None:
    """While no sender is heard nothing would send what is let in: only a trickle is."""
    throttle = Throttle(BEGAN)
    assert sum(let_in(throttle, 5)) == pytest.approx(5 * MOST, rel=0.02)
    assert sum(let_in(throttle, 20, BEGAN + 5)[-50:]) <= LEAST + 1
    heard(throttle, 0.0, 0.0, since=BEGAN + 26)
    assert throttle.rate > LEAST


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 20_000)), max_size=60))
def test_the_rate_has_bounds(said: list[tuple[float, float]]) -> None:
    """Whatever is said, and whenever, it stays between least and most, and a wait is never endless."""
    throttle, now = Throttle(BEGAN), BEGAN
    for pause_s, behind_ms in said:
        now += pause_s
        throttle.heard(behind_ms, now)
        throttle.took()
        assert LEAST <= throttle.rate <= MOST
        assert throttle.left_ms(now) <= 1000 / LEAST * (1 + len(said))
