"""What replays have written goes on to `deliveries` as its throttle allows, and is in no tier's way."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.flow.deliver import Carriage
from pipeline.flow.retry import Ladder
from pipeline.flow.throttle import MOST, Throttle
from pipeline.kafka import delay as module
from pipeline.kafka import starts, topics
from pipeline.kafka.clock import BrokerClock
from pipeline.kafka.delay import Holding
from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.source import GATHERING
from pipeline.kafka.stage import Stage
from pipeline.kafka.tracker import Progress
from pipeline.ports import Outgoing, Record
from pipeline.settings import Settings
from pipeline.workers.carriage import of_headers, to_headers
from pipeline.workers.delay import Delay
from tests.kafka.live import PATIENCE_S, committed, consume, eventually, headers_of, new_topic, producing
from tests.live_cluster import LiveCluster
from tests.prepared import prepared
from tests.workers.parts import UNDERTAKER

pytestmark = pytest.mark.replay

REPLAYED, TIER = "deliveries-replay", "retry-60s"


class Silent(Publisher):
    """A publisher that only remembers what it was given; `unreported` is what it says is on its way."""

    def __init__(self) -> None:  # no client is made
        self.written: list[Outgoing] = []
        self.unreported = 0

    def publish(self, record: Outgoing) -> asyncio.Future[Any]:
        """Never reported."""
        self.written.append(record)
        return asyncio.get_running_loop().create_future()

    @property
    def unreported_bytes(self) -> int:
        """What the test says."""
        return self.unreported

    async def room(self) -> None:
        """There is always room."""

    def of(self, key: bytes) -> int:
        """How many of this key were written."""
        return Counter(record.key for record in self.written)[key]


def holding(publisher: Silent, rate: float, tier_ms: int = 0) -> Holding:
    """The delay role's work, with one tier."""
    throttled = {REPLAYED: Throttle(time.monotonic(), rate)}
    worker = Delay(Ladder.parse(f"{TIER}=10ms"), UNDERTAKER)
    work = Holding(worker, {REPLAYED: 0, TIER: tier_ms}.__getitem__, publisher, BrokerClock(), throttled)
    work.processing(lambda _: None)
    return work


def batch(topic: str, count: int, partition: int = 0, progress: Progress | None = None) -> Batch:
    """The first records of a partition; each has the partition as its key."""
    progress = progress or Progress()
    records = [Record(topic, partition, offset, b"%d" % partition, b"", (), 0) for offset in range(count)]
    for record in records:
        progress.see(record.offset)
    return Batch([(record, progress) for record in records], {})


@contextmanager
def at_work(work: Holding) -> Iterator[None]:
    running = asyncio.create_task(work.run())
    try:
        yield
    finally:
        running.cancel()


async def test_no_more_go_than_the_throttle_allows() -> None:
    """However many lie there, they go at its rate."""
    publisher, began = Silent(), time.monotonic()
    work = holding(publisher, 200)
    await work.hold(batch(REPLAYED, 2_000))
    with at_work(work):
        await eventually(lambda: len(publisher.written) >= 60)
    assert len(publisher.written) <= 200 * (time.monotonic() - began) + 200 * 0.05 + 1


async def test_partitions_take_turns() -> None:
    """What one partition has in abundance does not keep another's waiting: they share the rate."""
    publisher = Silent()
    work = holding(publisher, 400)
    for partition in range(3):
        await work.hold(batch(REPLAYED, 1_000, partition))
    with at_work(work):
        await eventually(lambda: len(publisher.written) >= 120)
    shares = [publisher.of(b"%d" % partition) for partition in range(3)]
    assert max(shares) - min(shares) <= 2 * 400 * 0.05 + 2


async def test_a_tier_does_not_wait_for_them() -> None:
    """Beside a replay that may hardly move, what is due in a tier goes at once, as many as there are."""
    publisher = Silent()
    work = holding(publisher, 10)
    await work.hold(batch(REPLAYED, 1_000))
    await work.hold(batch(TIER, 1_000, partition=7))
    with at_work(work):
        await eventually(lambda: publisher.of(b"7") == 1_000)
    assert publisher.of(b"0") < 100


async def test_the_broker_s_pace_is_theirs() -> None:
    """While much is unreported they wait, whatever the throttle says, and what is due in a tier does not."""
    publisher = Silent()
    publisher.unreported = module._THROTTLED_UNREPORTED + 1
    work = holding(publisher, MOST)
    await work.hold(batch(REPLAYED, 10))
    await work.hold(batch(TIER, 10, partition=7))
    with at_work(work):
        await eventually(lambda: publisher.of(b"7") == 10)
        assert not work.overdue
        assert publisher.of(b"0") == 0
        publisher.unreported = 0
        await eventually(lambda: publisher.of(b"0") == 10)


async def test_little_is_held_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of theirs is paused with much less than a tier's, and read on when half of it has gone."""
    publisher, progress = Silent(), Progress()
    work = holding(publisher, 10, tier_ms=3_600_000)
    monkeypatch.setattr(module, "_THROTTLED_QUEUE", 300 * module._RECORD)
    await work.hold(batch(TIER, 400, partition=7))
    assert work.paused == frozenset()
    await work.hold(batch(REPLAYED, 400, progress=progress))
    assert work.paused == {(REPLAYED, 0)}
    progress.close()
    with at_work(work):
        await eventually(lambda: work.paused == frozenset())
    assert publisher.written == []


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    return replace(prepared(cluster), data_dir=tmp_path)


@asynccontextmanager
async def forwarding(
    settings: Settings, names: tuple[str, ...], replayed: str, out: str, group: str
) -> AsyncIterator[Stage]:
    """The delay role at work, as it is wired, on topics of the test's own."""
    publisher = Publisher(settings, linger_ms=1)
    delay = Delay(Ladder.parse("retry-60s"), UNDERTAKER)

    def forward(record: Record, waited_ms: int) -> Outgoing:
        return replace(delay(record, waited_ms), topic=out)

    throttled = {replayed: Throttle(time.monotonic())}
    work = Holding(forward, lambda _: 0, publisher, BrokerClock(), throttled)
    source = Source(group, "one", names, paused=lambda: work.paused, properties=GATHERING)
    stage = Stage(settings, source, work.processing)
    running = asyncio.create_task(work.run())
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop(PATIENCE_S)
        await publisher.close()
        running.cancel()


def written(settings: Settings, topic: str, count: int) -> None:
    """Deliveries, as a replay writes them."""
    producer = producing(settings, linger_ms=5)
    headers: Any = list(to_headers(Carriage("r1", 0)))
    for number in range(count):
        producer.produce(topic, b"\x00%d" % number, b"acme/wh_%d" % number, headers=headers)
    assert producer.flush(PATIENCE_S) == 0


async def test_they_go_on_as_they_are(settings: Settings) -> None:
    """Each once, key and bytes unchanged, one hop further; what has gone is not forwarded by the next process."""
    replayed, out, group = new_topic(settings, 2), new_topic(settings), f"tests-forward-{uuid.uuid4()}"
    await asyncio.to_thread(written, settings, replayed, 300)
    async with forwarding(settings, (replayed,), replayed, out, group):
        found = await asyncio.to_thread(consume, settings, out, 300)
    assert sum(committed(settings, group, replayed).values()) == 300
    assert {(one.key(), one.value()) for one in found} == {(b"acme/wh_%d" % n, b"\x00%d" % n) for n in range(300)}
    assert {of_headers(headers_of(one)) for one in found} == {Carriage("r1", 1)}
    async with forwarding(settings, (replayed,), replayed, out, group):
        await asyncio.to_thread(written, settings, replayed, 1)
        again = await asyncio.to_thread(consume, settings, out, 301)
    assert len({one.value() for one in again}) == 300


async def test_a_group_at_work_begins_with_them_at_the_beginning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delay group that knows its tiers and nothing of `deliveries-replay` starts, and reads that from offset 0.

    So it is after an upgrade: nobody may commit for a group that has members.
    """
    tier, replayed, out = (new_topic(settings) for _ in range(3))
    group = f"tests-forward-{uuid.uuid4()}"
    monkeypatch.setattr(topics, "DELAY_GROUP", group)
    monkeypatch.setattr(topics, "DELIVERIES_REPLAY", replayed)
    with pytest.raises(UsageError, match=f"{group} has no offset for {replayed}"):
        starts.ensure(settings, group, topics.unbegun(settings))
    with offsets_of(settings, group) as offsets:
        offsets.commit({("retry-5s", 0): 0})
    starts.ensure(settings, group, topics.unbegun(settings))
    await asyncio.to_thread(written, settings, replayed, 5)
    async with forwarding(settings, (f"^{tier}$", replayed), replayed, out, group):
        assert len(await asyncio.to_thread(consume, settings, out, 5)) == 5
