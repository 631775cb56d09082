"""A client that a late commit of its own has fenced: another takes its place, in the same process."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.kafka import feed
from pipeline.kafka.poller import Poller
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


async def test_a_client_that_fenced_itself_is_replaced(
    cluster: LiveCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker takes the late commit for a stranger's and the client dies of it; the process reads on with another.

    What was not committed is read again, and nothing else.
    """
    monkeypatch.setattr(feed, "_COMMIT_S", 0.05)
    settings, group, hands, still = settings_of(cluster, tmp_path), f"tests-anew-{uuid.uuid4()}", Hands(), Still()
    topic, admin = new_topic(settings), AdminClient({"bootstrap.servers": cluster.bootstrap})
    produce(settings, topic, numbered(10))
    _commit_late(monkeypatch, [TopicPartition(topic, 0, 4)])
    more: dict[str, Any] = {"properties": {"max_poll_interval_ms": SESSION_MS}, "paused": still}
    async with running(settings, group, topic, hands.processing, session_ms=SESSION_MS, **more) as stage:
        try:
            await eventually(lambda: len(hands.seen) == 10)
            hands.finish(0, 1, 2, 3)
            await until_committed(settings, group, topic, {0: 4})
            first = stage.feed._poller._consumer
            still.may_go_on.clear()
            await eventually(still.held.is_set, "the thread stands still")
            while await asyncio.to_thread(_members, admin, group):
                assert not stage.failed.done()
            await _join_and_die(cluster, group, topic)
        finally:
            still.may_go_on.set()
        hands.at_once = True
        await eventually(lambda: stage.failed.done() or stage.feed._poller._consumer is not first, "it is replaced")
        assert not stage.failed.done()
        produce(settings, topic, numbered(5))
        await eventually(lambda: stage.failed.done() or len(hands.seen) == 21, "all is read that is not committed")
        await until_committed(settings, group, topic, {0: 15})
        assert not stage.failed.done()
    assert hands.places == [(0, n) for n in (*range(10), *range(4, 15))]
