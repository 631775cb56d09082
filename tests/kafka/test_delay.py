from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from pipeline.flow.deliver import Carriage
from pipeline.flow.retry import Ladder
from pipeline.kafka import delay as module
from pipeline.kafka.clock import BrokerClock, tick
from pipeline.kafka.delay import Holding
from pipeline.kafka.feed import Batch, Source
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
from tests.workers.parts import CODEC, UNDERTAKER

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


def holding(
    publisher: Publisher,
    waits_ms: Mapping[str, int],
    ladder: Ladder | None = None,
    out: str = "out",
    clock: BrokerClock | None = None,
) -> Holding:
    """The delay role's work, whose deliveries and dead letters go to a topic of the test's own."""
    delay = Delay(ladder or Ladder.parse("retry-60s"), UNDERTAKER)

    def forward(record: Record, waited_ms: int) -> Outgoing:
        written = delay(record, waited_ms)
        return replace(written, topic=out) if written.topic in {"deliveries", "retry-dlq"} else written

    return Holding(forward, waits_ms.__getitem__, publisher, clock or BrokerClock())


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    return replace(prepared(cluster), data_dir=tmp_path)


@pytest.fixture
def tiers(settings: Settings) -> Iterator[dict[str, int]]:
    """Two short tiers of the setting, and one that has left it; they are gone afterwards."""
    waits = {"retry-201ms": 201, "retry-503ms": 503, "retry-102ms": 102}
    for name in waits:
        new_topic(settings, 2, APPEND_TIME, name)
    yield waits
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for answer in admin.delete_topics(list(waits)).values():
        answer.result(PATIENCE_S)


@asynccontextmanager
async def delaying(
    settings: Settings, waits_ms: dict[str, int], ladder: Ladder, out: str, group: str
) -> AsyncIterator[Stage]:
    """The delay role at work on these tiers, as it is wired."""
    publisher, clock = Publisher(settings, linger_ms=1), BrokerClock()
    work = holding(publisher, waits_ms, ladder, out, clock)
    source = Source(group, "one", tuple(waits_ms), paused=lambda: work.paused, properties=GATHERING)
    stage = Stage(settings, source, work.processing)
    beside = [asyncio.create_task(work.run()), asyncio.create_task(tick(clock, publisher))]
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop(PATIENCE_S)
        await publisher.close()
        for task in beside:
            task.cancel()


def waiting(settings: Settings, topic: str, waits_ms: list[int], first: int = 0, partition: int = -1) -> None:
    """Write a delivery for each of these waits to a tier, numbered from `first`."""
    producer = producing(settings, linger_ms=5)
    for number, wait_ms in enumerate(waits_ms, first):
        headers: Any = list(to_headers(Carriage("r1", 1, wait_ms, 7)))
        producer.produce(topic, b"\x00%d" % number, b"acme/wh_%d" % number, partition, headers=headers)
    assert producer.flush(PATIENCE_S) == 0


def appended(messages: list[Message]) -> dict[bytes, int]:
    """The broker's append time of each record, by its bytes."""
    return {message.value() or b"": message.timestamp()[1] for message in messages}


async def test_nothing_is_early(settings: Settings, tiers: dict[str, int]) -> None:
    """A record is forwarded after its tier's time on the broker's clock, unchanged but for hop and wait."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    ladder = Ladder.parse("retry-201ms retry-503ms retry-60s")
    async with delaying(settings, tiers, ladder, out, group) as stage:
        await eventually(lambda: stage.feed.joined)
        for batch_of in range(4):
            waiting(settings, "retry-201ms", [201] * 25, batch_of * 25)
        found = await asyncio.to_thread(consume, settings, out, 100)
    assert sum(committed(settings, group, "retry-201ms").values()) == 100
    began, ended = appended(consume(settings, "retry-201ms", 100)), appended(found)
    waited = sorted(ended[value] - began[value] for value in began)
    assert waited[0] >= 201
    assert waited[50] < 201 + 500
    assert {message.key() for message in found} == {b"acme/wh_%d" % number for number in range(100)}
    assert {of_headers(headers_of(message)) for message in found} == {Carriage("r1", 2, 0, 7)}


async def test_a_sum_is_walked(settings: Settings, tiers: dict[str, int]) -> None:
    """A wait of several tiers goes through each of them, largest first, and takes as long as all of them together."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    ladder = Ladder.parse("retry-201ms retry-503ms retry-60s")
    async with delaying(settings, tiers, ladder, out, group):
        waiting(settings, "retry-503ms", [503 + 2 * 201])
        (message,) = await asyncio.to_thread(consume, settings, out, 1)
    assert of_headers(headers_of(message)) == Carriage("r1", 4, 0, 7)
    hops = [*consume(settings, "retry-503ms", 1), *consume(settings, "retry-201ms", 2)]
    assert [of_headers(headers_of(record)).wait_ms for record in hops] == [905, 402, 201]
    times = [record.timestamp()[1] for record in (*hops, message)]
    assert [later - earlier >= least for (earlier, later), least in zip(pairwise(times), (503, 201, 201), strict=True)]
    assert times[-1] - times[0] >= 905


async def test_a_tier_that_left_the_setting_is_still_emptied(settings: Settings, tiers: dict[str, int]) -> None:
    """What lies in a tier that the ladder no longer has waits as long as its name says and goes on."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    waiting(settings, "retry-102ms", [102, 102 + 201])
    async with delaying(settings, tiers, Ladder.parse("retry-201ms retry-60s"), out, group):
        found = await asyncio.to_thread(consume, settings, out, 2)
    began, ended = appended(consume(settings, "retry-102ms", 2)), appended(found)
    assert ended[b"\x000"] - began[b"\x000"] >= 102
    assert ended[b"\x001"] - began[b"\x001"] >= 303


async def test_a_long_partition_holds_up_no_short_one(
    settings: Settings, tiers: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a partition with 50,000 waiting, more than memory takes, a single record of another one is in time."""
    monkeypatch.setattr(module, "_QUEUE", 1_000_000)
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    ladder, many = Ladder.parse("retry-201ms retry-503ms retry-60s"), 50_000
    await asyncio.to_thread(waiting, settings, "retry-503ms", [503] * many, 0, 0)
    async with delaying(settings, tiers, ladder, out, group):
        await asyncio.to_thread(consume, settings, out, 1)
        await asyncio.to_thread(waiting, settings, "retry-503ms", [503], many, 1)
        found = await asyncio.to_thread(consume, settings, out, many + 1, 40)
    began, ended = appended(consume(settings, "retry-503ms", many + 1)), appended(found)
    waited = {value: ended[value] - began[value] for value in began}
    assert len(waited) == many + 1
    assert min(waited.values()) >= 503
    alone = waited.pop(b"\x00%d" % many)
    assert alone < max(503 + 700, max(waited.values()) / 2)  # behind the many it would come as late as their last


async def test_a_tier_that_leaves_the_setting_is_forwarded_in_time(settings: Settings, tiers: dict[str, int]) -> None:
    """What waits in a tier when its role ends and comes back without it goes on, on the tiers that there are now."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    async with delaying(settings, tiers, Ladder.parse("retry-201ms retry-503ms retry-60s"), out, group) as stage:
        waiting(settings, "retry-503ms", [503, 503 + 201])
        await eventually(lambda: stage.feed.tracker.unfinished == 2)
    async with delaying(settings, tiers, Ladder.parse("retry-201ms retry-60s"), out, group):
        found = await asyncio.to_thread(consume, settings, out, 2)
    began, ended = appended(consume(settings, "retry-503ms", 2)), appended(found)
    assert [ended[value] - began[value] >= least for value, least in ((b"\x000", 503), (b"\x001", 704))] == [True] * 2


async def test_what_is_held_holds_up_no_stop(settings: Settings, tiers: dict[str, int]) -> None:
    """Records whose time has not come are not in flight: told to stop, the role leaves them to the next one at once."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    tiers["retry-503ms"] = 3_600_000
    async with delaying(settings, tiers, Ladder.parse("retry-201ms retry-60s"), out, group) as stage:
        waiting(settings, "retry-503ms", [503] * 10)
        await eventually(lambda: stage.feed.tracker.unfinished == 10)
        assert stage.feed.tracker.in_flight(list(stage.feed.tracker.partitions)) == 0
        began = time.monotonic()
        assert await stage.stop(PATIENCE_S)
        assert time.monotonic() - began < PATIENCE_S / 2
    assert sum(committed(settings, group, "retry-503ms").values()) == 0


async def test_a_restart_waits_no_second_time(settings: Settings, tiers: dict[str, int]) -> None:
    """What was held when the process stopped is forwarded by the next one, when its time is over, and once."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    ladder = Ladder.parse("retry-201ms retry-503ms retry-60s")
    waiting(settings, "retry-503ms", [503] * 10)
    async with delaying(settings, tiers, ladder, out, group) as stage:
        await eventually(lambda: stage.feed.tracker.unfinished == 10)
    async with delaying(settings, tiers, ladder, out, group):
        found = await asyncio.to_thread(consume, settings, out, 10)
    began = appended(consume(settings, "retry-503ms", 10))
    assert all(there - began[value] >= 503 for value, there in appended(found).items())
    assert len({message.value() for message in found}) == 10


async def test_a_header_that_cannot_be_read_is_buried(settings: Settings, tiers: dict[str, int]) -> None:
    """A record with such a header ends in a dead letter, and the one behind it goes on."""
    out, group = new_topic(settings, 1, APPEND_TIME), f"tests-delay-{uuid.uuid4()}"
    producer = producing(settings)
    producer.produce("retry-102ms", b"poison", b"acme/wh_0", headers=[("wait-ms", b"soon")])
    assert producer.flush(PATIENCE_S) == 0
    waiting(settings, "retry-102ms", [102])
    async with delaying(settings, tiers, Ladder.parse("retry-201ms retry-60s"), out, group):
        poison, fine = await asyncio.to_thread(consume, settings, out, 2)
    letter = CODEC.dead_letter(poison.value())
    assert (letter.source.topic, letter.value) == ("retry-102ms", b"poison")
    assert fine.value() == b"\x000"


class Silent(Publisher):
    """A publisher that only remembers, and reports when it is told."""

    def __init__(self) -> None:  # no client is made
        self.written: list[tuple[Outgoing, asyncio.Future[None]]] = []

    def publish(self, record: Outgoing) -> asyncio.Future[None]:  # type: ignore[override]
        """Kept for the test to report."""
        report: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.written.append((record, report))
        return report

    async def room(self) -> None:
        """There is always room."""


def batch(progress: Progress, *offsets: int, appended_ms: int = 0, topic: str = "retry-201ms") -> Batch:
    records = [Record(topic, 0, offset, None, b"", (), appended_ms) for offset in offsets]
    for offset in offsets:
        progress.see(offset)
    return Batch([(record, progress) for record in records], {})


async def test_a_full_partition_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that takes more memory than its share is named as paused until half of it has gone."""
    publisher, progress = Silent(), Progress()
    work = holding(publisher, {"retry-201ms": 3_600_000})
    hold = work.processing(lambda _: None)
    monkeypatch.setattr(module, "_QUEUE", 300 * module._RECORD)
    await hold(batch(progress, *range(300)))
    assert work.paused == frozenset()
    await hold(batch(progress, 300))
    assert work.paused == {("retry-201ms", 0)}
    progress.close()
    running = asyncio.create_task(work.run())
    await eventually(lambda: work.paused == frozenset())
    running.cancel()
    assert publisher.written == []


async def test_a_head_waits_no_longer_than_its_tier_from_when_it_was_seen() -> None:
    """Where the broker's clock was set back, a head goes when it has been held for the tier's time."""
    publisher, progress = Silent(), Progress()
    clock = BrokerClock(lambda: 0.0)
    clock.saw(1_000)  # and there it stands: by this clock nothing is ever due
    work = holding(publisher, {"retry-201ms": 50}, clock=clock)
    await work.processing(lambda _: None)(batch(progress, 0, appended_ms=1_000))
    running = asyncio.create_task(work.run())
    await eventually(lambda: len(publisher.written) == 1)
    running.cancel()


async def test_many_overdue_partitions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where much is overdue, no partition waits until another has been forwarded whole, and the event loop goes on."""
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    publisher, long, short = Silent(), Progress(), Progress()
    work = holding(publisher, {"retry-201ms": 0, "retry-503ms": 0})
    hold = work.processing(lambda _: None)
    await hold(batch(long, *range(1_000)))
    await hold(batch(short, 0, topic="retry-503ms"))
    running, turns = asyncio.create_task(work.run()), list[int]()
    while long.begun < 1_000:
        await asyncio.sleep(0)  # the event loop's next round
        turns.append(long.begun)
        assert short.begun or long.begun <= 10
    assert all(later - earlier <= 10 for earlier, later in pairwise([0, *turns]))
    running.cancel()


async def test_a_record_is_finished_when_its_forwarding_is_durable() -> None:
    """The floor passes a record when the broker has reported the next one, and a refusal is a fault of ours."""
    publisher, progress, faults = Silent(), Progress(), list[BaseException]()
    work = holding(publisher, {"retry-201ms": 0})
    await work.processing(faults.append)(batch(progress, 4, 5))
    running = asyncio.create_task(work.run())
    await eventually(lambda: len(publisher.written) == 2)
    assert (progress.floor, progress.started) == (4, 2)
    publisher.written[0][1].set_result(None)
    await eventually(lambda: progress.floor == 5)
    publisher.written[1][1].set_exception(OSError("refused"))
    await eventually(lambda: bool(faults))
    assert (progress.floor, str(faults[0])) == (5, "refused")
    running.cancel()
