"""What the isolation bench counts, and that it says which floor was missed."""

from __future__ import annotations

from typing import Any

import pytest

from bench import isolation, limited
from bench.limited import Book, Written
from bench.load import Stream
from bench.neighbours import Measured, Round, Window, compared
from pipeline.flow.retry import DEFAULT, Ladder

LADDER = Ladder.parse(DEFAULT)
MS = 1_000_000
SECOND = 1_000 * MS
GOOD = {"throughput_ratio": 1.0, "p99_ratio": 1.0, "missing": 0}
LIMITED = {
    **GOOD,
    "least_rate": 1.0,
    "most_rate": 1.0,
    "late": 0,
    "hops_mean": 6.0,
    "hops_max": 11,
    "writes_mean": 11.0,
    "writes_done": 9.0,
    "healthy_writes": 2.0,
}


def written(*steps: tuple[str, int], slot_ms: int = 0) -> list[Written]:
    """Records of a delivery: topic and `wait-ms`, each appended a second after the one before."""
    return [Written(hop, topic, wait_ms, slot_ms, hop * 1_000) for hop, (topic, wait_ms) in enumerate(steps)]


def test_window_is_judged_by_its_own_events() -> None:
    """A window's figures are those of the events sent in it, however late they came; others do not count."""
    mine = [(n, n * SECOND // 100, n * SECOND // 100 + 10 * MS) for n in range(100)]
    late = [(100, SECOND - 1, SECOND - 1 + 5 * SECOND)]
    other = [(101, SECOND, SECOND + 60 * SECOND)]
    fine, spoiled = (Measured.of(Window(0, SECOND), mine + more) for more in (other, late + other))
    assert (round(fine.per_s), fine.p99_ms) == (101, 10)
    assert (round(spoiled.per_s), spoiled.p99_ms) == (17, 10)


def window(second: float) -> Window:
    """A second from then on."""
    return Window(int(second * SECOND), int((second + 1) * SECOND))


def test_ratio_is_the_median_of_the_rounds() -> None:
    """One round that went wrong for another reason does not decide. Each window is compared with its own round's."""
    times, made = [], []
    for number, (beside, control) in enumerate(((1.0, 2.0), (1.1, 1.0), (9.0, 6.0))):
        begin = number * 10
        made.append(Round(window(begin), window(begin + 2), window(begin + 1)))
        for n in range(300):
            sent = begin * SECOND + n * SECOND // 100
            times.append((n, sent, sent + int(20 * MS * (1.0, control, beside)[n // 100])))
    figures = compared(made, times)
    assert (figures["p99_ratio"], figures["control_p99_ratio"], figures["p99_over_control"]) == (1.1, 2.0, 1.1)
    assert (figures["alone_p99_ms"], figures["control_p99_ms"], figures["beside_p99_ms"]) == (20, 40, 22)
    assert figures["throughput_ratio"] == pytest.approx(1.0, abs=0.01)


def test_rounds_without_a_control_have_no_figures_of_one() -> None:
    """A ratio that nothing was measured for is not told."""
    times = [(n, n * SECOND // 10, n * SECOND // 10 + MS) for n in range(20)]
    assert [name for name in compared([Round(window(0), window(1))], times) if "control" in name] == []


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("throughput_ratio", 0.89),
        ("p99_ratio", 1.21),
        ("missing", 1),
        ("least_rate", 0.94),
        ("most_rate", 1.06),
        ("late", 1),
        ("hops_mean", 8.1),
        ("hops_max", 13),
        ("writes_mean", 12.1),
        ("writes_done", 12.1),
        ("healthy_writes", 2.11),
    ],
)
def test_missed_floor_is_named(figure: str, value: float) -> None:
    """Each floor that is missed has a line of its own; when all are met there is none."""
    figures: dict[str, Any] = {"cases": {"dead": dict(GOOD), "limited": dict(LIMITED)}}
    assert isolation.missed(figures) == []
    figures["cases"]["limited"][figure] = value
    (line,) = isolation.missed(figures)
    assert line.startswith("limited: ")
    assert str(value) in line


@pytest.mark.parametrize(
    ("case", "figure"), [("dead", "p99_ratio"), *((case, "p99_over_control") for case in ("slow", "dns", "hostile"))]
)
def test_each_case_has_one_floor_for_the_tail(case: str, figure: str) -> None:
    """Of dead neighbours all that they cost counts; of others, what they cost more than healthy ones."""
    good = {**GOOD, "p99_over_control": 1.0}
    for ratio in ("p99_ratio", "p99_over_control"):
        lines = isolation.missed({"cases": {case: {**good, ratio: 1.21}}})
        assert [line.partition(" is ")[0] for line in lines] == ([f"{case}: {figure}"] if ratio == figure else [])


@pytest.mark.parametrize("kind", isolation.BAD.values())
def test_the_control_is_reached_in_the_same_way(kind: isolation.Kind) -> None:
    """By name where the bad ones are, under names of its own; and its neighbours are well."""
    assert (kind.control.script, kind.control.named, kind.control.window_s) == ("well", kind.named, kind.window_s)
    assert not kind.named or kind.control.host.format(0, 0) != kind.host.format(0, 0)


@pytest.mark.parametrize(("peak", "received", "lines"), [(499.0, 600_000, 0), (500.0, 600_000, 1), (400.0, 599_999, 1)])
def test_memory_has_its_floor(peak: float, received: int, lines: int) -> None:
    """A peak of 500 MB is too much, and so is a delivery that did not come."""
    figures: dict[str, Any] = {"cases": {}, "memory": {"sender_peak_mb": peak, "received": received}}
    assert len(isolation.missed(figures)) == lines


def test_hops_of_waits() -> None:
    """A wait is what lies between two records of `deliveries`; one that has not ended counts as it was planned."""
    ended = written(("deliveries", 0), ("retry-3m", 200_000), ("retry-20s", 20_000), ("deliveries", 0))
    assert limited._waits(ended, LADDER) == ([2], 0)
    waiting = [*ended, *(Written(4, "retry-60s", 90_000, 4_000 + 90_000 + 12_000, 4_000),)]
    # 60 + 20 + 5 + 5 s, then 10 s more until the slot: two tiers and two records of `deliveries`.
    assert limited._waits(waiting, LADDER) == ([2, 4], 3 + 1 + 2 + 1)


def test_writes_of_a_delivery() -> None:
    """A delivery that has ended costs its records; one that waits costs those that are still to come as well."""
    book = Book()
    book.limited[1] = written(("deliveries", 0), ("retry-5s", 5_000), ("deliveries", 0), slot_ms=6_000)
    book.attempts[1] = 1
    book.limited[2] = written(("deliveries", 0), ("retry-5s", 5_000), slot_ms=6_000)
    figures = limited._records(book, LADDER)
    assert (figures["delivered"], figures["writes_done"], figures["writes_mean"]) == (1, 4, 4)
    assert (figures["hops_mean"], figures["hops_max"]) == (1, 1)


def test_order_allows_what_is_in_flight_together() -> None:
    """Neighbours may swap; who comes more than sixteen places after a later slot is late."""
    book = Book()
    for n in range(40):
        book.limited[n] = written(("retry-5s", 5_000), slot_ms=1_000 + n)
    swapped = [0, 2, 1, *range(3, 40)]
    assert limited._order(book, [(n, 0, 0) for n in swapped]) == {"late": 0, "swapped_share": round(1 / 39, 4)}
    behind = [*range(5), *range(6, 30), 5, *range(30, 40)]
    assert limited._order(book, [(n, 0, 0) for n in behind])["late"] == 1


def test_two_bad_endpoints_get_half_of_the_bad_traffic() -> None:
    """Few hot ones and many others."""
    turn = isolation._two_get_half([str(n) for n in range(50)])
    assert (turn.count("0"), turn.count("1"), len(turn), set(turn)) == (24, 24, 96, {str(n) for n in range(50)})


def test_stream_is_never_behind() -> None:
    """A stream that was not asked for a while has all that has become due."""
    stream = Stream(("a",), rate=1e9)
    first, second = stream.due(), stream.due()
    assert (first.start, second.start) == (0, first.stop)
    assert len(first) > 0 < len(second)
