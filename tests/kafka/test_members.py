"""Members come and go under load."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from threading import Event

from confluent_kafka import Consumer, TopicPartition

from pipeline.kafka.feed import Batch
from pipeline.kafka.stage import Fail, Process, Stage
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, eventually, new_topic, produce, producing, settings_of
from tests.kafka.working import Hands, numbered, running, until_committed
from tests.live_cluster import LiveCluster

PARTITIONS = 6
SESSION_MS = 3_000
_RATE_S = 0.02


class Ledger:
    """What all members together have worked on, and how long each partition had to wait for somebody."""

    def __init__(self) -> None:
        self.places: Counter[tuple[int, int]] = Counter()
        self.waited_s: dict[int, float] = dict.fromkeys(range(PARTITIONS), 0.0)

    def processing(self, _fail: Fail) -> Process:
        """What every member does."""
        return self.take

    async def take(self, batch: Batch) -> None:
        """Each record takes a moment, and the moments of a batch pass together."""
        started = [(record, progress) for record, progress in batch if progress.start(record.offset)]
        await asyncio.sleep(0.001)
        for record, progress in started:
            self.places[record.partition, record.offset] += 1
            waited = time.time() - record.timestamp_ms / 1000
            self.waited_s[record.partition] = max(waited, self.waited_s[record.partition])
            progress.finish(record.offset)


class Dying:
    """A member that dies as it lets go of what another is to have: it has revoked, and never says so."""

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self.held, self.letting_go, self.end = 0, Event(), Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": group,
                "group.instance.id": "one",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 500,
                "enable.auto.commit": False,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked)

    def poll(self) -> None:
        """In a thread: until it has died and been buried."""
        while not self.letting_go.is_set():
            self._consumer.poll(0.1)
        self._consumer.close()

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.held += len(partitions)

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.letting_go.set()
        self.end.wait(PATIENCE_S)


class Load:
    """One record for each partition, again and again."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._producer, self._topic, self.rounds = producing(settings), topic, 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for partition in range(PARTITIONS):
                self._producer.produce(self._topic, b"x", None, partition)
            self._producer.poll(0)
            self.rounds += 1
            await asyncio.sleep(_RATE_S)


@asynccontextmanager
async def loaded(settings: Settings, topic: str) -> AsyncIterator[Load]:
    """Records come as long as this lasts; at the end all are written."""
    load = Load(settings, topic)
    task = asyncio.create_task(load.run())
    yield load
    task.cancel()
    assert await asyncio.to_thread(load._producer.flush, 20) == 0


def held(*stages: Stage) -> list[int]:
    """How many partitions each has."""
    return [len(stage.feed.tracker.partitions) for stage in stages]


async def moves_on(load: Load, ledger: Ledger) -> None:
    """Every partition gets on with what is written from now on."""
    now = load.rounds
    await eventually(lambda: all(ledger.places[partition, now] for partition in range(PARTITIONS)), "no one is stuck")


async def test_members_come_and_go_under_load(cluster: LiveCluster, tmp_path: Path) -> None:
    """Two members are added, one leaves and comes back: every record is worked on, nobody waits for more than seconds.

    A member that comes is waited for by those partitions alone that move. One that leaves for good is missed for its
    session, as static members are; one that is back before finds its partitions untouched.
    """
    settings, group = settings_of(cluster, tmp_path), f"tests-members-{uuid.uuid4()}"
    topic, ledger = new_topic(settings, PARTITIONS), Ledger()

    def member(name: str) -> AbstractAsyncContextManager[Stage]:
        return running(settings, group, topic, ledger.processing, name, session_ms=SESSION_MS)

    async with loaded(settings, topic) as load:
        async with member("one") as one, AsyncExitStack() as others:
            await eventually(lambda: held(one) == [6])
            await moves_on(load, ledger)
            two = await others.enter_async_context(member("two"))
            await eventually(lambda: held(one, two) == [3, 3])
            third = AsyncExitStack()
            three = await third.enter_async_context(member("three"))
            await eventually(lambda: held(one, two, three) == [2, 2, 2])
            await moves_on(load, ledger)
            adding = dict(ledger.waited_s)
            await third.aclose()
            back = await others.enter_async_context(member("three"))
            await eventually(lambda: held(one, two, back) == [2, 2, 2], "back in time")
            await moves_on(load, ledger)
            await others.aclose()
            await eventually(lambda: held(one) == [6], "the others have left for good")
            await moves_on(load, ledger)
            rounds = load.rounds
            await eventually(lambda: load.rounds > rounds)
        last = load.rounds
    assert max(adding.values()) < 5
    assert max(ledger.waited_s.values()) < SESSION_MS / 1000 + 7
    async with member("one"):
        await eventually(lambda: len(ledger.places) == last * PARTITIONS, "every record")
        await until_committed(settings, group, topic, dict.fromkeys(range(PARTITIONS), last))
    assert set(ledger.places.values()) == {1}


async def test_what_was_in_hand_of_a_partition_that_went_is_read_again(cluster: LiveCluster, tmp_path: Path) -> None:
    """A partition that goes while its records wait for the stage, and comes back, begins at its commit again."""
    settings, group = settings_of(cluster, tmp_path), f"tests-members-{uuid.uuid4()}"
    topic, count = new_topic(settings, 2), 8_000
    for partition in (0, 1):
        produce(settings, topic, numbered(count), partition)
    one, other = Hands(at_once=True), Hands()
    async with running(settings, group, topic, one.processing, session_ms=SESSION_MS) as stage:
        one.gate.clear()
        await eventually(lambda: stage.feed._poller._held_up, within_s=20)
        async with running(settings, group, topic, other.processing, "two", session_ms=SESSION_MS) as second:
            other.gate.clear()
            await eventually(lambda: held(stage, second) == [1, 1], within_s=20)
        await eventually(lambda: held(stage) == [2], within_s=20)
        one.gate.set()
        await until_committed(settings, group, topic, {0: count, 1: count})
    assert set(one.places) == {(partition, offset) for partition in (0, 1) for offset in range(count)}


async def test_a_partition_without_an_owner_finds_one(cluster: LiveCluster, tmp_path: Path) -> None:
    """A static member that dies when it has let go of partitions, and is back before anybody has them, orphans them."""
    settings, group = settings_of(cluster, tmp_path), f"tests-members-{uuid.uuid4()}"
    topic, ledger = new_topic(settings, PARTITIONS), Ledger()
    dying = Dying(settings, group, topic)
    polling = asyncio.create_task(asyncio.to_thread(dying.poll))
    try:
        await eventually(lambda: dying.held == PARTITIONS)
        async with running(settings, group, topic, ledger.processing, "two") as two:
            await eventually(dying.letting_go.is_set)
            async with running(settings, group, topic, ledger.processing, "one") as one:
                await eventually(lambda: held(one) == [3])
                assert held(two) == [0]
                await eventually(lambda: held(one, two) == [3, 3], "all have an owner")
    finally:
        dying.end.set()
        await polling
