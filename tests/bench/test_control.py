"""What the bench of the control plane calls a missed floor."""

from __future__ import annotations

from typing import Any

import pytest

from bench import control, ingest, pages, recorder, view

WELL: dict[str, dict[str, float]] = {
    "ingest": {"single_per_s": ingest.LEAST["single_per_s"], "batched_per_s": 15_000, "refused": 0},
    "pages": {"first_p99_ms": pages.MOST_MS, "thousandth_p99_ms": 50.0},
    "recorder": {"attempts_per_s": recorder.LEAST_PER_S, "cpu_us": 150.0},
    "view": {"router_ready_s": view.MOST_S, "router_mb": 700.0, "api_ready_s": 1.0, "api_mb": view.MOST_MB},
}


def figures(part: str = "ingest", **changed: float) -> dict[str, Any]:
    return {**WELL, part: {**WELL[part], **changed}, "busy_percent": 3.0}


def test_what_meets_every_floor_is_well() -> None:
    """At the floors themselves nothing is missed, and the floors are those that were promised."""
    assert control.missed(figures()) == []
    assert (ingest.LEAST, recorder.LEAST_PER_S) == ({"single_per_s": 1_500, "batched_per_s": 15_000}, 5_000)
    assert (pages.MOST_MS, view.MOST_S, view.MOST_MB) == (50.0, 10.0, 700.0)
    assert (pages.ROWS, view.SUBSCRIPTIONS) == (5_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("part", "name", "figure", "line"),
    [
        ("ingest", "single_per_s", 1_499.0, "ingest: single_per_s is 1,499; the floor is 1,500"),
        ("ingest", "batched_per_s", 14_999.0, "ingest: batched_per_s is 14,999; the floor is 15,000"),
        ("ingest", "refused", 2, "ingest: 2 requests were refused"),
        ("pages", "thousandth_p99_ms", 50.1, "pages: thousandth_p99_ms is 50.1; the floor is 50"),
        ("recorder", "attempts_per_s", 4_999.0, "recorder: attempts_per_s is 4,999; the floor is 5,000"),
        ("view", "api_ready_s", 10.5, "view: api_ready_s is 10.5; the floor is 10"),
        ("view", "router_mb", 701.0, "view: router_mb is 701.0; the floor is 700"),
    ],
)
def test_what_misses_a_floor_is_named(part: str, name: str, figure: float, line: str) -> None:
    """A figure beyond its floor is one line that says which, how much, and what was wanted."""
    assert control.missed(figures(part, **{name: figure})) == [line]
