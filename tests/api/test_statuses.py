"""Counting what became of a replay's deliveries: seldom, where it takes long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.api.log.asking import AskedLog
from pipeline.api.log.statuses import SHARE, Statuses
from pipeline.flow.history import DeliverySeen, Status
from tests.api.parts import temporary_log

pytestmark = pytest.mark.replay


@pytest.fixture
def log() -> Iterator[AskedLog]:
    made = temporary_log()
    yield made
    made.close()


def seen(number: int) -> DeliverySeen:
    """A delivery of the replay `rpl_1`."""
    return DeliverySeen("acme", f"msg_{number}", "", "wh_1", f"e{number}", "a.b", 0, 0, number, 0, 1, "rpl_1", 0, 0, 0)


async def test_it_is_counted_again_after_many_times_as_long(log: AskedLog) -> None:
    """What takes two seconds is told as it was for forty; other replays are counted by themselves."""
    times = iter((0.0, 2.0, 2.0 + SHARE * 2 - 1, 2.0 + SHARE * 2, 50.0, 50.0, 51.0, 51.0))
    statuses = Statuses(log, lambda: next(times))
    await log.ask(lambda held: held.write([seen(1)]))
    assert await statuses.of("rpl_1") == {Status.PENDING: 1}
    await log.ask(lambda held: held.write([seen(2)]))
    assert await statuses.of("rpl_1") == {Status.PENDING: 1}
    assert await statuses.of("rpl_1") == {Status.PENDING: 2}
    assert await statuses.of("rpl_2") == {}
