"""A replay on a terminal: a bar for each partition of its window, below them all of it in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


class Bars:
    """Each bar has its partition, how many records are done with of how many, its pace, and the time that is left."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live, self._tasks = live, dict[int, TaskID]()
        counts = TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TextColumn("{task.fields[pace]}")
        columns = (TextColumn("partition {task.description}"), BarColumn(), *counts, TimeRemainingColumn())
        self._progress = Progress(*columns, console=live.console, auto_refresh=False, get_time=clock)

    def say(self, words: str) -> None:
        """Replace what is shown."""
        self._live.update(Text(words), refresh=True)

    def show(self, partitions: list[dict[str, Any]], words: str) -> None:
        """The bars as they stand now: `from`, `to` and how much of it is `reached`, by partition."""
        for one in partitions:
            if size := one["to"] - one["from"]:
                self._move(one["partition"], size, one["reached"])
        self._live.update(Group(self._progress, Text(words)), refresh=True)

    def _move(self, partition: int, size: int, reached: float) -> None:
        if partition not in self._tasks:
            self._tasks[partition] = self._progress.add_task(str(partition), total=size, pace="")
        task = self._tasks[partition]
        self._progress.update(task, completed=reached * size)
        speed = next(one.speed for one in self._progress.tasks if one.id == task)
        self._progress.update(task, pace="" if speed is None else f"{speed:,.0f} records/s")


@contextmanager
def bars(console: Console, clock: Callable[[], float]) -> Iterator[Bars]:
    """They go when it ends."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Bars(live, clock)
