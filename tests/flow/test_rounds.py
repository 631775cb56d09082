from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.rounds import FIRST, RANDOM_BYTES, fresh_round

TIMES = st.integers(0, 2**47)
RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(TIMES, RANDOM, TIMES, RANDOM)
def test_later_rounds_are_greater(now: int, random: bytes, later: int, more: bytes) -> None:
    """A round is greater, as text, than the one that it follows, also when the clock has gone back."""
    first = fresh_round(now, random, FIRST)
    assert first > FIRST
    assert fresh_round(later, more, first) > first


@given(TIMES, RANDOM, RANDOM)
def test_rounds_of_other_times_keep_the_order_of_time(now: int, random: bytes, more: bytes) -> None:
    """Rounds are in the order of their making, whatever their random part."""
    assert fresh_round(now + 1, random) > fresh_round(now, more)


def test_a_round_travels_as_it_is() -> None:
    """26 digits and capitals, which a header and a URL hold as they are."""
    made = fresh_round(1_767_225_600_000, bytes(RANDOM_BYTES))
    assert len(made) == 26
    assert made.isascii()
    assert made.isalnum()


def test_a_round_of_somebody_elses_is_followed() -> None:
    """What is not of our form is not read as a time."""
    assert len(fresh_round(5, bytes(RANDOM_BYTES), "abc")) == 26
