"""The test of a configuration as its user sees it: a line that moves while it runs, then what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.cli import _output
from pipeline.cli._output import Format
from pipeline.errors import PipelineError

SUCCESS = "success"
_COLUMNS = ("attempt", "started", "duration_ms", "verdict", "status_code")
_CUT = "the API has ended before the test did: look at the webhook's state, or test again"


def follow(steps: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Say on stderr what is being done, and give the outcome. Raises `PipelineError` when none comes."""
    with _moving_line() as say:
        for name, told in steps:
            match name:
                case "progress":
                    say(f"attempt {told['attempt']} of {told['of']}: {told['doing']}, {told['seconds']:.0f} s")
                case "attempt":
                    answer = told["status_code"] or "no answer"
                    _output.aside(f"attempt {told['attempt']}: {told['verdict']} ({answer}), {told['duration_ms']} ms")
                case "outcome":
                    return told
    raise PipelineError(_CUT)


def show(result: dict[str, Any], output: Format) -> None:
    """The outcome, its attempts below it; or all of it as JSON."""
    _output.record_with(result, "attempts", _COLUMNS, output)


@contextmanager
def _moving_line() -> Iterator[Callable[[str], object]]:
    """Replaces one line of a terminal; says nothing where there is none."""
    from rich.console import Console  # noqa: PLC0415 - for people only, and slow to load
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda words: live.update(words, refresh=True)
