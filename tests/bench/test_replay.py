"""What the bench of replays counts, and that it says which floor was missed."""

from __future__ import annotations

import pytest

from bench import replay
from bench.neighbours import Window

GOOD = {"plan_events_per_s": 100_000.0, "replay_per_s": 450.0, "live_p99_ratio": 1.2, "live_missing": 0}


def test_what_meets_every_floor_is_well() -> None:
    """At the floors themselves nothing is missed, and a part that was not run misses none."""
    assert replay.missed(GOOD) == []
    assert replay.missed({"plan_events_per_s": 100_000.0}) == []


@pytest.mark.parametrize(
    ("name", "figure", "line"),
    [
        ("plan_events_per_s", 99_999.0, "plan_events_per_s is 99,999; the floor is 100,000"),
        ("replay_per_s", 449.0, "replay_per_s is 449; the floor is 450"),
        ("live_p99_ratio", 1.21, "live_p99_ratio is 1.21; the floor is 1.2"),
        ("live_missing", 1, "1 live deliveries did not come"),
    ],
)
def test_missed_floor_is_named(name: str, figure: float, line: str) -> None:
    """A figure beyond its floor is one line that says which, how much, and what was wanted."""
    assert replay.missed({**GOOD, name: figure}) == [line]


def test_rate_of_a_replay_is_that_after_its_start() -> None:
    """A replay starts slowly: the first half of its window does not count, nor does what came after the window."""
    came = [(0, 0, at) for at in (999, 1_000, 1_500, 1_999, 2_000)]
    assert replay.replayed_per_s(Window(0, 2_000), came) == pytest.approx(3 / 1_000 * 1e9)
