from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.flow.retry import DEFAULT, MOST_TIERS, Ladder, Tier, span_ms, topic_span_ms

LADDER = Ladder.parse(DEFAULT)
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


@st.composite
def ladders(draw: st.DrawFn, most: int = 500) -> Ladder:
    """Any ladder: some tiers of other lengths than their names say."""
    lengths = draw(st.sets(st.integers(1, most), min_size=1, max_size=6))
    return Ladder.parse(" ".join(["retry-60s", *(f"retry-{length}ms" for length in lengths)]) + f" retry-7m={most}ms")


def walked(ladder: Ladder, wait_ms: int) -> list[int]:
    """The tiers that a record waits in, as the delay role walks it through."""
    tiers = []
    while wait_ms > 0:
        tier = ladder.next_tier(wait_ms).wait_ms
        tiers.append(tier)
        wait_ms -= tier
    return tiers


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("5s", 5_000), ("100ms", 100), ("3m", 180_000), ("6h", 21_600_000), ("90s", 90_000)]
)
def test_a_span_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    """Lengths of time are whole numbers of ms, s, m or h."""
    assert span_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-5s", "5 s", "5d", "1.5s", "5s5s"])
def test_other_spans_are_refused(text: str) -> None:
    """What is no such length is refused with an example of one that is."""
    with pytest.raises(SettingsError, match="5s"):
        span_ms(text)


@pytest.mark.parametrize(
    ("topic", "wait_ms"), [("retry-5s", 5_000), ("retry-6h", 6 * HOUR), ("retry-dlq", None), ("events", None)]
)
def test_a_tier_is_known_by_its_name(topic: str, wait_ms: int | None) -> None:
    """A topic's name says how long its records wait; the dead letters' topic is no tier."""
    assert topic_span_ms(topic) == wait_ms


def test_the_ladder_is_read_in_any_order() -> None:
    """Tiers come shortest first, blanks or commas between them, with other lengths than their names' where given."""
    ladder = Ladder.parse("retry-60s,retry-5s  retry-20s=200ms")
    assert ladder.tiers == (Tier("retry-20s", 200), Tier("retry-5s", 5_000), Tier("retry-60s", 60_000))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no retry-60s"),
        ("retry-5s retry-20s", "no retry-60s"),
        ("retry-60s retry-5s retry-5s=1ms", "twice"),
        ("retry-60s retry-dlq", "'retry-dlq' is not the name of a tier"),
        ("retry-60s deliveries=5s", "'deliveries' is not the name of a tier"),
        ("retry-60s retry-5s=soon", "'soon' is not a length of time"),
        ("retry-60s retry-5s=0ms", "'0ms' is not a length of time"),
        ("retry-60s retry-5", "'retry-5' is not the name of a tier"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(text: str, complaint: str) -> None:
    """The refusal names the word that is wrong."""
    with pytest.raises(SettingsError, match=complaint):
        Ladder.parse(text)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (1, 5 * SECOND),
        (5 * SECOND, 5 * SECOND),
        (6 * SECOND, 10 * SECOND),
        (5 * MINUTE, 5 * MINUTE),
        (6 * MINUTE, 6 * MINUTE),
        (30 * MINUTE, 30 * MINUTE),
        (36 * MINUTE, 36 * MINUTE),
        (2 * HOUR, 2 * HOUR),
        (int(2.4 * HOUR), int(2.4 * HOUR)),
        (5 * HOUR, 5 * HOUR),
        (6 * HOUR, 6 * HOUR),
        (10 * HOUR, 10 * HOUR),
        (12 * HOUR, 12 * HOUR),
        (14 * HOUR, 14 * HOUR),
        (int(16.8 * HOUR), 17 * HOUR),
        (20 * HOUR, 20 * HOUR),
        (24 * HOUR, 24 * HOUR),
        (int(28.8 * HOUR), 30 * HOUR),
    ],
)
def test_the_products_waits_on_the_default_ladder(asked: int, given: int) -> None:
    """Each wait of a product, bare and with all of its jitter, becomes this sum of the default tiers."""
    assert LADDER.round_up(asked) == given


@given(st.integers(0, 48 * HOUR))
def test_a_wait_of_the_default_ladder_is_never_short(wait_ms: int) -> None:
    """A rounded wait is never below the wait, is walked exactly, in 1 to 8 tiers, and not a quarter longer."""
    rounded = LADDER.round_up(wait_ms)
    tiers = walked(LADDER, rounded)
    assert rounded >= wait_ms
    assert sum(tiers) == rounded
    assert 1 <= len(tiers) <= MOST_TIERS
    assert rounded <= max(wait_ms * 5 // 4, wait_ms + 5 * SECOND)


@given(st.integers(1, 48 * HOUR // (5 * SECOND) - 1))
def test_the_default_ladder_keeps_the_order_of_waits(fives: int) -> None:
    """A longer wait is never rounded below a shorter one."""
    assert LADDER.round_up(fives * 5 * SECOND) <= LADDER.round_up(fives * 5 * SECOND + 1)


@given(st.data())
def test_a_wait_of_any_ladder_is_never_short(data: st.DataObject) -> None:
    """On any ladder a rounded wait is no shorter than the wait, and walked exactly, in 1 to 8 tiers; the least such."""
    ladder = data.draw(ladders())
    wait_ms = data.draw(st.integers(0, ladder.tiers[-1].wait_ms * MOST_TIERS))
    rounded = ladder.round_up(wait_ms)
    assert wait_ms <= rounded == sum(walked(ladder, rounded))
    assert 1 <= len(walked(ladder, rounded)) <= MOST_TIERS
    assert not [
        less
        for less in range(max(wait_ms, 1), min(rounded, wait_ms + 20))
        if sum(walked(ladder, less)) == less and len(walked(ladder, less)) <= MOST_TIERS
    ]


@given(st.lists(st.integers(2, 4), max_size=4), st.integers(1, 2_000))
def test_a_wait_is_rounded_to_the_least_that_will_do(factors: list[int], wait_ms: int) -> None:
    """Where each tier is a multiple of the one before, no shorter sum of at most 8 tiers would have done."""
    lengths = [1]
    for factor in factors:
        lengths.append(lengths[-1] * factor)
    ladder = Ladder.parse(f"retry-60s={lengths.pop()}ms " + " ".join(f"retry-{length}ms" for length in lengths))
    wait_ms = min(wait_ms, ladder.tiers[-1].wait_ms * MOST_TIERS)
    enough = next(longer for longer in range(wait_ms, 10_000) if len(walked(ladder, longer)) <= MOST_TIERS)
    assert ladder.round_up(wait_ms) == enough


@given(
    st.sets(st.sampled_from(("retry-7s", "retry-90s", "retry-4m", "retry-9m=10m")), max_size=4), st.integers(0, 10**9)
)
def test_a_wait_is_never_cut(others: set[str], wait_ms: int) -> None:
    """Where eight of the longest tiers do not hold a wait, it takes more of them: it is not made shorter."""
    ladder = Ladder.parse(" ".join(["retry-60s", *others]))
    rounded = ladder.round_up(wait_ms)
    assert wait_ms <= rounded == sum(walked(ladder, rounded))
    if wait_ms > ladder.tiers[-1].wait_ms * MOST_TIERS:
        assert rounded < wait_ms + ladder.tiers[-1].wait_ms


@given(ladders(), st.integers(0, 10**9))
def test_a_ladder_shortened_for_tests_has_a_longest_wait(ladder: Ladder, wait_ms: int) -> None:
    """On a ladder with tiers shorter than their names nothing waits longer than eight of the longest."""
    assert ladder.shortened
    longest = ladder.tiers[-1].wait_ms * MOST_TIERS
    assert ladder.round_up(wait_ms + longest) == longest


@pytest.mark.parametrize(
    ("text", "topic", "wait_ms"),
    [("retry-60s", "retry-60s", 60_000), ("retry-60s=5ms", "retry-60s", 5), ("retry-60s=5ms", "retry-2h", 2 * HOUR)],
)
def test_a_tier_s_wait(text: str, topic: str, wait_ms: int) -> None:
    """A tier's records wait as the setting says; those of one that is not in it as long as its name says."""
    assert Ladder.parse(text).tier_wait_ms(topic) == wait_ms


def test_what_is_left_below_the_smallest_tier_waits_in_it() -> None:
    """A rest that no tier fits waits in the smallest one: late, never early."""
    assert LADDER.next_tier(1).topic == "retry-5s"
    assert LADDER.next_tier(19 * SECOND).topic == "retry-5s"
    assert LADDER.next_tier(20 * SECOND).topic == "retry-20s"
    assert LADDER.next_tier(100 * HOUR).topic == "retry-6h"
