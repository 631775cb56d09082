"""Ends a process that stands still: from outside a stuck consumer looks healthy, and its partitions are nobody's.

It judges the oldest record that was started and has not been finished; a stage in which nothing starts or finishes
although records wait to be started; and the poller's thread. The time does not count during which a dependency is
known not to answer, nor the time during which this process itself was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog

from pipeline.errors import PipelineError
from pipeline.kafka.feed import Feed
from pipeline.kafka.pulse import now

PATIENCE_S = 50.0
"""A request is handed over after 20 seconds; then its record has 30 more."""
_LOOK_S = 1.0
_LATE_S = 5.0
_log = structlog.get_logger()


class Watchdog:
    """Watches one feed. `excused` is true while a dependency is known not to answer.

    `startable` says whether what waits could start now: where records wait for their time, most could not.
    """

    def __init__(
        self,
        feed: Feed,
        excused: Callable[[], bool],
        startable: Callable[[], bool] = lambda: True,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._feed, self._excused, self._startable, self._patience_s = feed, excused, startable, patience_s
        self._looked = self._since = self._moved = now()
        self._moves = 0

    async def run(self) -> NoReturn:
        """Look once a second; raises `PipelineError`, which ends the process, when it stands still."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look(now())

    def look(self, at: float) -> None:
        """Look, at that time (seconds of `pulse.now`)."""
        if self._excused() or at - self._looked > _LATE_S:
            self._since = at
        self._looked = at
        tracker = self._feed.tracker
        waiting = tracker.waiting()
        if tracker.moves != self._moves or waiting is None or not self._startable():
            self._moves, self._moved = tracker.moves, at
        if self._feed.turned < (before := at - self._patience_s) and self._since < before:
            raise self._stuck(at - self._feed.turned, "the thread that polls Kafka has not come back")
        if self._since < before and (oldest := tracker.oldest()) is not None and oldest.since < before:
            age = at - oldest.since
            raise self._stuck(age, "a record was started and has not been finished", oldest.partition, oldest.offset)
        if waiting is not None and max(self._moved, self._since) < before:
            raise self._stuck(at - self._moved, "records wait and nothing starts or finishes", *waiting)

    @staticmethod
    def _stuck(age_s: float, what: str, partition: tuple[str, int] = ("", 0), offset: int = 0) -> PipelineError:
        topic, number = partition
        where = {"topic": topic, "partition": number, "offset": offset} if topic else {}
        _log.error("stuck", what=what, age_s=round(age_s, 1), **where)
        place = f": {topic}[{number}] at {offset}" if topic else ""
        return PipelineError(f"this process stands still: {what}, for {age_s:.0f} s{place}")
