"""Senders say on `clock` how long deliveries wait for them; who lets replays in hears it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import cycle

import pytest

from pipeline.kafka import clock
from pipeline.kafka.clock import BrokerClock, tick
from pipeline.kafka.pressure import Waits, listen
from pipeline.kafka.publisher import Publisher
from pipeline.ports import Record
from pipeline.settings import Settings
from tests.kafka.live import eventually
from tests.live_cluster import LiveCluster
from tests.prepared import prepared

pytestmark = pytest.mark.replay

NOW_MS = 1_767_225_600_000


class World:
    """The broker's time, our clock, and whether more is waiting."""

    def __init__(self) -> None:
        self.at_ms, self.more = 0.0, False
        self.waits = Waits(lambda: NOW_MS + self.at_ms, lambda: self.more, lambda: self.at_ms / 1000)

    def took_up(self, *waited_ms: float) -> None:
        """Records that have waited so long."""
        for one in waited_ms:
            stamp = int(NOW_MS + self.at_ms - one)
            self.waits.took_up(Record("deliveries", 0, 0, None, b"", (), stamp))

    def says(self) -> bytes:
        """A second later."""
        self.at_ms += 1_000
        ((name, value),) = self.waits.says()
        assert name == "behind-ms"
        return value


def test_the_longest_wait_is_said() -> None:
    """Of all that was taken up since the last time, in milliseconds, once."""
    world = World()
    world.took_up(30, 2_500, 4)
    assert [world.says(), world.says()] == [b"2500", b"0"]


def test_whoever_stands_still_falls_behind() -> None:
    """Where nothing is taken up although records wait, they wait longer by every second; then it is over."""
    world = World()
    world.took_up(300)
    world.more = True
    assert [world.says() for _ in range(3)] == [b"300", b"1300", b"2300"]
    world.took_up(2_400)
    world.more = False
    assert [world.says(), world.says()] == [b"2400", b"0"]


def test_a_writer_s_clock_that_is_ahead_makes_no_number_below_nothing() -> None:
    """A record from the future has not waited."""
    world = World()
    world.took_up(-5_000)
    assert world.says() == b"0"


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return prepared(cluster)


async def test_what_is_said_is_heard(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders' ticks are heard from now on; the delay role's own say nothing, and what is no number is passed over."""
    monkeypatch.setattr(clock, "_TICK_S", 0.05)
    publisher, heard = Publisher(settings), list[float]()
    said = cycle([(("behind-ms", b"1700"),), (("behind-ms", b"soon"),), (), (("behind-ms", b"12"),)])
    listening = asyncio.create_task(listen(settings, heard.append))
    ticking = asyncio.create_task(tick(BrokerClock(), publisher, lambda: next(said)))
    try:
        await eventually(lambda: set(heard) == {1_700.0, 12.0})
    finally:
        for task in (ticking, listening):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await publisher.close()
