"""One partition that hangs is nobody else's trouble; nothing starts on the word of a membership that may be over."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from pipeline.kafka import feed, intake
from pipeline.kafka.feed import Batch
from pipeline.kafka.stage import Fail, Process
from pipeline.kafka.tracker import Progress
from pipeline.settings import Settings
from tests.kafka.live import eventually, new_topic, produce, settings_of
from tests.kafka.working import Hands, numbered, running, until_committed
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    return settings_of(cluster, tmp_path)


@pytest.fixture(autouse=True)
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_COMMIT_S", 0.05)


@pytest.fixture
def group() -> str:
    return f"tests-fairness-{uuid.uuid4()}"


class Hanging:
    """Works on 15 records at the same time; those of partition 0 do not end before they are told to."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(15)
        self.hanging: list[tuple[Progress, int]] = []
        self.ended: dict[int, int] = {0: 0, 1: 0}
        self.told = False

    def processing(self, _fail: Fail) -> Process:
        """What a stage is made with."""
        return self.take

    async def take(self, batch: Batch) -> None:
        """Return when all of the batch is under way."""
        for record, progress in batch:
            await self.slots.acquire()
            if not progress.start(record.offset):
                self.slots.release()
            elif record.partition == 0 and not self.told:
                self.hanging.append((progress, record.offset))
            else:
                self._end(progress, record.partition, record.offset)

    def tell(self) -> None:
        """From now on, all ends at once."""
        self.told = True
        for progress, offset in self.hanging:
            self._end(progress, 0, offset)

    def _end(self, progress: Progress, partition: int, offset: int) -> None:
        self.ended[partition] += 1
        progress.finish(offset)
        self.slots.release()


async def test_a_partition_that_hangs_leaves_room_for_others(settings: Settings, group: str) -> None:
    """Of a partition whose records do not end, no more than its share is under way; another's are all worked on."""
    topic, work = new_topic(settings, 2), Hanging()
    produce(settings, topic, numbered(6_000), 0)
    async with running(settings, group, topic, work.processing, share=10) as stage:
        await eventually(lambda: len(work.hanging) == 10)
        produce(settings, topic, numbered(6_000), 1)
        await eventually(lambda: work.ended[1] == 6_000, "all of the other partition")
        assert (len(work.hanging), work.ended[0]) == (10, 0)
        assert stage.feed.intake.full == {(topic, 0)}
        assert len(stage.feed.tracker.partitions[topic, 0].unfinished) <= 2_500
        work.tell()
        await eventually(lambda: work.ended[0] == 6_000, "it goes on")
        await until_committed(settings, group, topic, {0: 6_000, 1: 6_000})


async def test_reading_stays_near_the_floor(settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition is read only so far beyond its lowest unfinished record; meanwhile others go on."""
    monkeypatch.setattr(intake, "WINDOW", 1_000)
    topic, hands = new_topic(settings, 2), Hands()
    produce(settings, topic, numbered(1), 0)
    async with running(settings, group, topic, hands.processing) as stage:
        await eventually(lambda: len(hands.seen) == 1)
        hands.at_once = True
        for partition in (0, 1):
            produce(settings, topic, numbered(8_000), partition)
        await eventually(lambda: sum(partition for partition, _ in hands.places) == 8_000, "the other partition")
        await eventually(lambda: stage.feed.intake.full == {(topic, 0)})
        assert 1_000 < stage.feed.tracker.partitions[topic, 0].span <= 4_000
        hands.finish(0)
        await eventually(lambda: len(hands.seen) == 16_001, "it goes on")
        await until_committed(settings, group, topic, {0: 8_001, 1: 8_000})


def test_the_window_is_well_within_what_a_new_owner_looks_at() -> None:
    """All that was answered above a commit is found by whoever looks back over 100,000 offsets."""
    assert intake.WINDOW + 10 * 500 <= 100_000 / 2


async def test_a_membership_that_lasts_is_gone_on_with(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a late tick nothing starts until a commit has shown that the membership lasts; then all does, once."""
    monkeypatch.setattr(intake, "WINDOW", 1_000)
    topic, hands = new_topic(settings, 2), Hands()
    for partition in (0, 1):
        produce(settings, topic, numbered(3_000), partition)
    async with running(settings, group, topic, hands.processing) as stage:
        await eventually(lambda: len(hands.seen) >= 1_000)
        hands.gate.clear()
        await eventually(lambda: bool(stage.feed.intake.full), "a partition is paused")
        stage.feed.tracker.pulse.until = 0  # as if the process had stood still
        started = len(hands.seen)
        hands.gate.set()
        await eventually(lambda: stage.feed._doubts == 1)
        assert len(hands.seen) == started
        assert len(stage.feed.troubles) == 1
        await eventually(lambda: not stage.feed.troubles, "the membership is confirmed")
        hands.at_once = True
        hands.finish_all()
        await eventually(lambda: len(hands.seen) == 6_000, "all of it")
        await until_committed(settings, group, topic, {0: 3_000, 1: 3_000})
        assert len(set(hands.places)) == len(hands.seen) == 6_000
