"""The bounds of one partition, without a broker: how far it is read ahead, and how many of it the stage has."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pipeline.kafka import intake as module
from pipeline.kafka.intake import Batch, Intake
from pipeline.kafka.tracker import Partition, Progress, Tracker
from pipeline.ports import Record

SLOW, OTHER = ("deliveries", 0), ("deliveries", 1)
WINDOW = 1_000


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", WINDOW)


@dataclass
class Reading:
    """A stage that takes everything at once; the test reads and finishes."""

    share: int = 0
    tracker: Tracker = field(default_factory=Tracker)

    def __post_init__(self) -> None:
        self.intake = Intake(self.tracker, self._never, self.share)
        for partition in (SLOW, OTHER):
            self.intake.take(partition)

    async def _never(self, batch: Batch) -> None:
        raise AssertionError(batch)

    def read(self, partition: Partition, first: int, last: int) -> None:
        """These offsets come; what the stage gets of them, it starts."""
        topic, number = partition
        records = [Record(topic, number, offset, None, b"", (), 0) for offset in range(first, last + 1)]
        self.intake.accept(records, {})
        self._start_what_came()

    def _start_what_came(self) -> None:
        while not self.intake._ready.empty():
            for record, progress in self.intake._ready.get_nowait()[0]:
                assert progress.start(record.offset)

    def finish(self, partition: Partition, first: int, last: int) -> None:
        """All that these caused is durable."""
        for offset in range(first, last + 1):
            self.at(partition).finish(offset)
        self._start_what_came()
        self.intake.weigh()

    def at(self, partition: Partition) -> Progress:
        """What is known of a partition."""
        return self.tracker.partitions[partition]


def test_one_record_that_hangs_bounds_what_is_read_beyond_it() -> None:
    """Where all but the lowest are finished, the window alone pauses the partition; no other."""
    reading = Reading()
    for partition in (SLOW, OTHER):
        reading.read(partition, 0, WINDOW)
    assert reading.intake.full == frozenset({SLOW, OTHER})
    reading.finish(OTHER, 0, WINDOW)
    reading.finish(SLOW, 1, WINDOW)
    assert len(reading.at(SLOW).unfinished) == 1
    assert reading.intake.full == frozenset({SLOW})


def test_up_to_the_window_it_is_read() -> None:
    """A partition that is ahead by the window exactly is not paused yet."""
    reading = Reading()
    reading.read(SLOW, 0, WINDOW - 1)
    reading.finish(SLOW, 1, WINDOW - 1)
    assert reading.intake.full == frozenset()


def test_it_is_read_on_when_half_of_the_window_is_free() -> None:
    """It is not paused and read on for each record, but by halves."""
    reading = Reading()
    reading.read(SLOW, 0, WINDOW)
    reading.finish(SLOW, 0, WINDOW // 2 - 1)
    assert reading.intake.full == frozenset({SLOW})
    reading.finish(SLOW, WINDOW // 2, WINDOW // 2)
    assert reading.intake.full == frozenset()


def test_a_share_holds_back_more_than_it() -> None:
    """The stage gets its share of a partition and no more, then the next when half of it is answered; others go on."""
    reading = Reading(share=10)
    reading.read(SLOW, 0, 29)
    reading.read(SLOW, 30, 59)
    assert (reading.at(SLOW).started, len(reading.at(SLOW).backlog)) == (10, 50)
    reading.finish(SLOW, 0, 3)
    assert (reading.at(SLOW).started, len(reading.at(SLOW).backlog)) == (6, 50)
    reading.finish(SLOW, 4, 4)
    assert (reading.at(SLOW).started, len(reading.at(SLOW).backlog)) == (10, 45)
    reading.read(OTHER, 0, 9)
    assert reading.at(OTHER).started == 10


def test_what_was_dropped_in_doubt_is_read_again_once() -> None:
    """After a doubt reading begins again at the lowest that waited; what was under way is not started twice."""
    reading = Reading(share=10)
    reading.read(SLOW, 0, 19)
    reading.tracker.close([SLOW])
    assert (reading.at(SLOW).started, len(reading.at(SLOW).backlog)) == (10, 0)
    assert reading.tracker.reopen() == {SLOW: 10}
    reading.finish(SLOW, 0, 9)
    reading.read(SLOW, 10, 19)
    assert list(reading.at(SLOW).unfinished) == list(range(10, 20))
    assert reading.at(SLOW).started == 10
