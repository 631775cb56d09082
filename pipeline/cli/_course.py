"""A replay as its user sees it: while it is planned, while it runs, and how it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pipeline.cli import _output
from pipeline.errors import PipelineError, Unreachable

LOOK_S = 1.0
TELL_S = 10.0
PATIENCE_S = 60.0
"""An API that does not answer for so long is not waited for any more. The replay goes on without it."""
ENDS = ("done", "failed", "cancelled")
_CUT = "the API has ended before the plan was made: plan again"

Seen = dict[str, Any]
"""A replay as the API shows it."""


class Screen(Protocol):
    """Where progress is shown, always on stderr."""

    def show(self, partitions: list[Seen], words: str) -> None:
        """How far a replay is, by partition, and in words."""

    def say(self, words: str) -> None:
        """How far a plan is."""


def planned(steps: Iterable[tuple[str, Seen]], clock: Callable[[], float] = time.monotonic) -> Seen:
    """Show how far the reading of the window is, and give the plan. Raises `PipelineError` when none comes."""
    with _screen(clock) as screen:
        for name, told in steps:
            match name:
                case "progress":
                    pace = told["scanned"] / max(told["seconds"], 0.001)
                    screen.say(f"planning: {told['scanned']:,} of {told['of']:,} records, {pace:,.0f} records/s")
                case "plan":
                    return told
                case "problem":
                    raise PipelineError(told["detail"])
    raise PipelineError(_CUT)


def followed(
    replay: Seen,
    look: Callable[[], Seen],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> Seen:
    """Show a replay until it has ended or is paused; how it stands then.

    Ctrl-C ends the looking, not the replay, and says so. Raises `Unreachable` when the API is silent for a minute.
    """
    newest, name = replay, replay["id"]
    try:
        with _screen(clock) as screen:
            for newest in _looks(replay, look, clock, pause):
                screen.show(_partitions(newest), summary(newest))
    except KeyboardInterrupt:
        _output.aside(f"the replay goes on: `pipeline replays show {name} --follow`, `pipeline replays cancel {name}`")
        raise
    _output.aside(summary(newest))
    return newest


def _looks(
    replay: Seen, look: Callable[[], Seen], clock: Callable[[], float], pause: Callable[[float], object]
) -> Iterator[Seen]:
    """How it stands, again and again, in the end how it has ended."""
    answered_s = clock()
    yield replay
    while not _rests(replay):
        pause(LOOK_S)
        try:
            replay, answered_s = look(), clock()
        except Unreachable:
            if clock() - answered_s > PATIENCE_S:
                raise
        yield replay


def summary(replay: Seen) -> str:
    """One line: which, how it stands, how far, how fast, how long still."""
    reached = replay["progress"]
    if reached is None:
        return f"{replay['id']}: {replay['state']}"
    done, size = _done(_partitions(replay))
    said = [
        replay["state"],
        f"{done:,} of {size:,} records ({percent(reached)})",
        f"{reached['deliveries']:,} deliveries",
    ]
    if not _rests(replay):
        said += _pace(reached)
    said += [f"{reached['unreadable']:,} records could not be read"] if reached["unreadable"] else []
    said += [reached[why] for why in ("waiting", "error") if reached[why]]
    return f"{replay['id']}: {', '.join(said)}"


def percent(progress: Seen) -> str:
    """Which part of its window is done with."""
    return f"{100 * progress['reached']:.0f} %"


def _rests(replay: Seen) -> bool:
    """Whether it will not go on by itself. What has just been resumed may still be told to be paused."""
    state, ordered = replay["state"], replay["ordered"]
    return state in ENDS or (ordered != "running" and state in {ordered, "queued"})


def _partitions(replay: Seen) -> list[Seen]:
    return replay["progress"]["partitions"] if replay["progress"] else []


def _done(partitions: list[Seen]) -> tuple[int, int]:
    sizes = [one["to"] - one["from"] for one in partitions]
    done = sum(round(one["reached"] * size) for one, size in zip(partitions, sizes, strict=True))
    return done, sum(sizes)


def _pace(reached: Seen) -> list[str]:
    paces = [("records_per_s", "{:,.0f} records/s"), ("deliveries_per_s", "{:,.0f} deliveries/s")]
    said = [form.format(reached[name]) for name, form in paces if reached[name] is not None]
    return said + ([] if reached["eta_s"] is None else [f"{_span(reached['eta_s'])} left"])


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def _screen(clock: Callable[[], float]) -> Iterator[Screen]:
    """Bars on a terminal, elsewhere a line now and then."""
    from rich.console import Console  # noqa: PLC0415 - for people only, and slow to load

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines(clock)
        return
    from pipeline.cli._bars import bars  # noqa: PLC0415

    with bars(console, clock) as screen:
        yield screen


class _Lines:
    """A line every ten seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._told_s = clock, clock()

    def show(self, _partitions: list[Seen], words: str) -> None:
        """See `Screen`."""
        self.say(words)

    def say(self, words: str) -> None:
        """See `Screen`."""
        if self._clock() - self._told_s >= TELL_S:
            self._told_s = self._clock()
            _output.aside(words)
