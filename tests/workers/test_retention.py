"""When the delivery log forgets, and what."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from pipeline.errors import SettingsError, Unreachable
from pipeline.workers import retention as module
from pipeline.workers.retention import Retention, days_of
from tests.kafka.live import eventually
from tests.workers.parts import NOW_MS

DAY_MS = 86_400_000
FIRST = dt.date(2025, 12, 2)
"""30 days before `NOW_MS`, which is where 2026 begins."""


@dataclass
class Dropping:
    """A log that notes what it drops; the first so many times it does not answer. Its clock counts the looks."""

    down: int = 0
    asked: int = 0
    days: list[dt.date] = field(default_factory=list)
    now_ms: int = NOW_MS
    looks: int = 0

    def drop_before(self, day: dt.date) -> int:
        """In the caller's thread."""
        self.asked += 1
        if self.asked <= self.down:
            raise Unreachable("the database does not answer")
        self.days.append(day)
        return 3

    def clock(self) -> int:
        """Asked at every look."""
        self.looks += 1
        return self.now_ms


@asynccontextmanager
async def running(log: Dropping) -> AsyncIterator[None]:
    task = asyncio.create_task(Retention(log, 30, log.clock).run())
    yield
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.001)


async def test_a_day_is_dropped_at_the_start_and_when_another_begins() -> None:
    """What is older than the days that are held goes at once, and again after midnight (UTC), not in between."""
    log = Dropping()
    async with running(log):
        await eventually(lambda: log.looks > 5)
        log.now_ms += DAY_MS - 1
        await eventually(lambda: log.looks > 10)
        assert log.days == [FIRST]
        log.now_ms += 1
        await eventually(lambda: len(log.days) > 1)
        assert log.days == [FIRST, FIRST + dt.timedelta(1)]


async def test_a_database_that_is_down_is_asked_again() -> None:
    """While the database does not answer nothing is dropped and nothing ends; the day is dropped when it is back."""
    log = Dropping(down=2)
    async with running(log):
        await eventually(lambda: log.days == [FIRST])
    assert log.asked == 3


def test_the_setting() -> None:
    """Whole days, at least one; anything else is refused and the variable named."""
    assert days_of("30d") == 30
    for wrong in ("", "0d", "30", "-1d", "12h", "30d ", "100000d"):
        with pytest.raises(SettingsError, match="PIPELINE_LOG_RETENTION"):
            days_of(wrong)
