"""A replay while it runs, as its user sees it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.cli import _course
from pipeline.errors import PipelineError, Unreachable

pytestmark = pytest.mark.replay

NAME = "rpl_1"


def replay(state: str, done: int = 0, *, ordered: str = "running", **told: Any) -> dict[str, Any]:
    """Of two partitions with 100 and 300 records, of which `done` in the second are done with."""
    reached = {
        "partitions": [
            {"partition": 0, "from": 0, "next": 100, "to": 100, "reached": 1.0},
            {"partition": 1, "from": 50, "next": 50 + done, "to": 350, "reached": done / 300},
        ],
        "reached": (100 + done) / 400,
        "events": 100 + done,
        "deliveries": done,
        "unreadable": 0,
        "waiting": None,
        "error": None,
        "records_per_s": None,
        "deliveries_per_s": None,
        "eta_s": None,
        **told,
    }
    return {"id": NAME, "state": state, "ordered": ordered, "progress": None if state == "queued" else reached}


@dataclass
class Time:
    """Goes on only when somebody waits."""

    now: float = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.now += seconds


def followed(first: dict[str, Any], looks: Iterable[dict[str, Any] | Exception], time: Time) -> dict[str, Any]:
    coming = iter(looks)

    def look() -> dict[str, Any]:
        match next(coming):
            case Exception() as error:
                raise error
            case shown:
                return shown

    return _course.followed(first, look, time, time.sleep)


def test_without_a_terminal_a_line_comes_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """How far, how fast, how long still; in the end how it has ended."""
    running = (replay("running", 10 * n, records_per_s=10.0, eta_s=300.0 - 10 * n) for n in range(25))
    followed(replay("queued"), [*running, replay("done", 300)], Time())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "rpl_1: running, 190 of 400 records (48 %), 90 deliveries, 10 records/s, 3 min 30 s left",
        "rpl_1: running, 290 of 400 records (72 %), 190 deliveries, 10 records/s, 1 min 50 s left",
        "rpl_1: done, 400 of 400 records (100 %), 300 deliveries",
    ]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (replay("done", 300, unreadable=2), "400 of 400 records (100 %), 300 deliveries, 2 records could not be read"),
        (replay("failed", 30, error="it broke"), "failed, 130 of 400 records (32 %), 30 deliveries, it broke"),
        (replay("paused", 30, ordered="paused"), "paused, 130 of 400 records"),
        (replay("cancelled", 30, ordered="cancelled"), "cancelled"),
        (replay("queued", ordered="cancelled"), "rpl_1: queued"),
    ],
)
def test_it_is_followed_until_it_rests(last: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """To its end, or until somebody pauses it; a replay that no replayer has taken may be cancelled too."""
    assert followed(replay("running"), [last], Time()) == last
    assert words in capsys.readouterr().err


def test_what_has_just_been_resumed_goes_on() -> None:
    """The replayer may still say `paused` for a moment after somebody has resumed it."""
    done = replay("done", 300)
    assert followed(replay("paused"), [replay("paused"), replay("running"), done], Time()) is done


def test_why_it_waits_is_said() -> None:
    """A replay that stands still says why."""
    assert "the endpoint's breaker is open" in _course.summary(
        replay("running", 5, waiting="the endpoint's breaker is open")
    )


def test_a_silent_api_is_waited_for() -> None:
    """For a minute; then the command ends, though the replay does not."""
    down = Unreachable("the API does not answer")
    done = replay("done", 300)
    assert followed(replay("running"), [*[down] * 50, replay("running"), *[down] * 50, done], Time()) is done
    with pytest.raises(Unreachable):
        followed(replay("running"), [down] * 100, Time())


def test_ctrl_c_says_that_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever stops looking is told how to look again, and how to stop it."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _course.followed(replay("running"), lambda: replay("running"), Time(), interrupted)
    said = capsys.readouterr().err
    assert "`pipeline replays show rpl_1 --follow`" in said
    assert "`pipeline replays cancel rpl_1`" in said


def test_a_plan_is_told_while_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """The reading of a long window is seen; the plan comes at its end, and an end without one is an error."""
    time = Time()

    def steps() -> Iterator[tuple[str, dict[str, Any]]]:
        for seconds in (5, 11):
            time.now = seconds
            yield "progress", {"scanned": 100_000 * seconds, "of": 2_000_000, "seconds": float(seconds)}
        yield "plan", {"deliveries": 7}

    assert _course.planned(steps(), time) == {"deliveries": 7}
    assert capsys.readouterr().err == "planning: 1,100,000 of 2,000,000 records, 100,000 records/s\n"
    with pytest.raises(PipelineError, match="before the plan was made"):
        _course.planned([])
    with pytest.raises(PipelineError, match="Kafka does not answer"):
        _course.planned([("problem", {"detail": "Kafka does not answer"})])


def test_on_a_terminal_each_partition_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its count, its pace and the time that is left; all of it in words below."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    running = (replay("running", 10 * n, eta_s=30.0) for n in range(20))
    followed(replay("queued"), [*running, replay("done", 300)], Time())
    shown = screen.getvalue()
    frame = shown[: shown.index("rpl_1: running, 250 of 400")].rpartition("partition 0")[2]
    assert "100/100" in frame
    assert "partition 1" in frame
    assert "150/300" in frame
    assert "10 records/s" in frame
    assert "0:00:15" in frame
    assert "30 s left" in shown
    assert shown.endswith("rpl_1: done, 400 of 400 records (100 %), 300 deliveries\n")
