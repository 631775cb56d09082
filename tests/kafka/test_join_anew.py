"""A client that a late commit of its own has fenced: another takes its place, in the same process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.kafka import feed
from pipeline.kafka.poller import Poller
from pipeline.kafka.stage import Stage
from pipeline.kafka.tracker import Partition
from tests.kafka.live import PATIENCE_S, eventually, new_topic, produce, settings_of
from tests.kafka.working import Hands, numbered, running, until_committed
from tests.live_cluster import LiveCluster

SESSION_MS = 2_000


class Still:
    """A poller's thread that stands still while it is told to; its client gives its membership up meanwhile."""

    def __init__(self) -> None:
        self.held, self.may_go_on = Event(), Event()
        self.may_go_on.set()

    def __call__(self) -> frozenset[Partition]:
        """Asked in each of the thread's turns: which partitions are not to be read."""
        if not self.may_go_on.is_set():
            self.held.set()
            self.may_go_on.wait()
        return frozenset()


def _members(admin: AdminClient, group: str) -> int:
    return len(admin.describe_consumer_groups([group])[group].result(PATIENCE_S).members)


async def _join_and_die(cluster: LiveCluster, group: str, topic: str) -> None:
    """The broker gives the instance id to somebody else, who is gone again at once."""
    other = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "group.instance.id": "one",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6_000,
            "enable.auto.commit": False,
        }
    )
    other.subscribe([topic])
    for _ in range(400):
        await asyncio.to_thread(other.poll, 0.05)
        if other.assignment():
            break
    assert other.assignment()
    await asyncio.to_thread(other.close)


def _commit_late(monkeypatch: pytest.MonkeyPatch, offsets: list[TopicPartition]) -> None:
    """A commit that waited for the broker goes out when the membership has ended."""
    on_lost = Poller._on_lost

    def lost(self: Poller, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        on_lost(self, consumer, partitions)
        consumer.commit(offsets=offsets, asynchronous=True)

    monkeypatch.setattr(Poller, "_on_lost", lost)


@pytest.fixture(autouse=True)
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_COMMIT_S", 0.05)


@dataclass
class Place:
    """A stage of one topic, its work done by hand, whose poller can be made to stand still."""

    cluster: LiveCluster
    folder: Path
    group: str = field(default_factory=lambda: f"tests-anew-{uuid.uuid4()}")
    hands: Hands = field(default_factory=Hands)
    still: Still = field(default_factory=Still)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.cluster, self.folder)
        self.topic, self.admin = new_topic(self.settings), AdminClient({"bootstrap.servers": self.cluster.bootstrap})
        produce(self.settings, self.topic, numbered(10))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Stage]:
        """All ten records are under way, four are finished and committed."""
        more: dict[str, Any] = {"properties": {"max_poll_interval_ms": SESSION_MS}, "paused": self.still}
        async with running(
            self.settings, self.group, self.topic, self.hands.processing, session_ms=SESSION_MS, **more
        ) as stage:
            try:
                await eventually(lambda: len(self.hands.seen) == 10)
                self.hands.finish(0, 1, 2, 3)
                await until_committed(self.settings, self.group, self.topic, {0: 4})
                yield stage
            finally:
                self.still.may_go_on.set()

    async def stand_still(self) -> None:
        """Until the group has given up its member; it does not know yet."""
        self.still.may_go_on.clear()
        await eventually(self.still.held.is_set, "the thread stands still")
        while await asyncio.to_thread(_members, self.admin, self.group):
            pass

    async def goes_on(self, stage: Stage, first: Consumer) -> None:
        """With another client, from the commit on, and nothing has failed."""
        poller, hands = stage.feed._poller, self.hands
        await eventually(lambda: stage.failed.done() or poller._consumer is not first, "the client is replaced")
        hands.at_once = True
        seen = len(hands.seen)
        produce(self.settings, self.topic, numbered(5))
        await eventually(lambda: stage.failed.done() or hands.places[seen:][-1:] == [(0, 14)], "all is read on")
        assert not stage.failed.done()
        await until_committed(self.settings, self.group, self.topic, {0: 15})


async def test_a_client_that_fenced_itself_is_replaced(
    cluster: LiveCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker takes the late commit for a stranger's and the client dies of it; the process reads on with another.

    What was not committed is read again, and nothing else.
    """
    place = Place(cluster, tmp_path)
    _commit_late(monkeypatch, [TopicPartition(place.topic, 0, 4)])
    async with place.working() as stage:
        first = stage.feed._poller._consumer
        await place.stand_still()
        await _join_and_die(cluster, place.group, place.topic)
        place.still.may_go_on.set()
        await place.goes_on(stage, first)
    assert place.hands.places == [(0, n) for n in (*range(10), *range(4, 15))]


async def test_what_the_dead_client_held_is_lost(cluster: LiveCluster, tmp_path: Path) -> None:
    """A client that dies with partitions in its hands takes them along: nothing of that time starts or is committed."""
    place = Place(cluster, tmp_path)
    async with place.working() as stage:
        first, tracker = stage.feed._poller._consumer, stage.feed.tracker
        await place.stand_still()
        place.still.may_go_on.set()
        await eventually(lambda: len(place.hands.seen) == 16, "it is a member again")
        held = tracker.partitions[place.topic, 0]
        await _join_and_die(cluster, place.group, place.topic)
        await place.goes_on(stage, first)
        assert (held.lost, held.open) == (True, False)
        assert tracker.partitions[place.topic, 0] is not held
