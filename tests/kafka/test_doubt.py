"""A process that stood still: which word from Kafka lets it go on, and which does not. No broker is asked here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.kafka.feed import Batch, Feed, Source
from pipeline.ports import Record
from pipeline.settings import Settings

PLACE = ("deliveries", 0)


async def _put(_batch: Batch) -> None:
    """The stage takes everything."""


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    """A feed of three records that wait, closed by its second doubt."""
    made = Feed(Settings(bootstrap_servers="127.0.0.1:1"), Source("tests-doubt", "one", ("deliveries",)), _put, print)
    made.intake.take(PLACE)
    made.intake.accept([Record(*PLACE, offset, None, b"", (), 0) for offset in range(3)], {})
    made.tracker.close([PLACE])
    made._doubts = made._poller.doubt = 2
    yield made
    made._poller._consumer.close()


def _closed(feed: Feed) -> bool:
    return feed.tracker.partitions[PLACE].closed


async def test_the_commit_that_settles_the_doubt(feed: Feed) -> None:
    """When the membership is shown to have lasted all is started again, from the lowest that waited."""
    assert feed.troubles
    assert await feed.reopen(2) == {PLACE: 0}
    assert (_closed(feed), feed.troubles) == (False, [])


async def test_what_is_confirmed_is_not_doubted(feed: Feed) -> None:
    """Work that has lasted through a standstill may write for its partition again once the membership is shown."""
    feed.tracker.pulse.until = 0.0
    assert not feed.tracker.pulse.beat()
    assert feed.tracker.pulse.doubtful
    await feed.reopen(1)
    assert feed.tracker.pulse.doubtful, "of before the last doubt"
    await feed.reopen(2)
    assert not feed.tracker.pulse.doubtful


async def test_a_commit_of_before_the_last_doubt_says_nothing(feed: Feed) -> None:
    """It stood still again since that commit was asked for: nothing starts on its word."""
    assert await feed.reopen(1) == {}
    assert (_closed(feed), len(feed.troubles)) == (True, 1)


async def test_what_ends_for_a_fault_is_not_started_again(feed: Feed) -> None:
    """After a fault no commit lets anything start."""
    feed.abandon()
    assert await feed.reopen(2) == {}
    assert _closed(feed)


async def test_what_drains_is_not_started_again(feed: Feed) -> None:
    """A process that is told to stop starts nothing more either."""
    feed._poller.leave.set()
    assert await feed.reopen(2) == {}
    assert _closed(feed)
