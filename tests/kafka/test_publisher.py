from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from pipeline.errors import PipelineError, Unreachable
from pipeline.kafka import publisher as module
from pipeline.kafka.publisher import Publisher
from pipeline.ports import Outgoing
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, consume, headers_of, new_topic, settings_of
from tests.live_cluster import LiveCluster, live_cluster

NOWHERE = Settings(bootstrap_servers="127.0.0.1:1")
SMALL = Outgoing("any", b"k", b"v")


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@asynccontextmanager
async def publishing(settings: Settings, timeout_s: float | None = None) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, timeout_s)
    try:
        yield publisher
    finally:
        await publisher.close(0 if settings is NOWHERE else PATIENCE_S)


async def test_a_report_says_where_and_when(settings: Settings) -> None:
    """A report comes when the record is durable, with its offset, and its append time where the broker gave it."""
    topic = new_topic(settings, config={"message.timestamp.type": "LogAppendTime"})
    async with publishing(settings) as publisher:
        before = time.time() * 1000
        reports = [await publisher.publish(Outgoing(topic, b"k", b"%d" % number)) for number in range(3)]
        assert [report.offset for report in reports] == [0, 1, 2]
        assert before - 1 <= reports[0].append_ms <= time.time() * 1000 + 1
        assert publisher.unreported_bytes == 0
        unstamped = await publisher.publish(Outgoing(new_topic(settings), None, b""))
        assert unstamped.append_ms == 0


async def test_a_record_arrives_as_it_was(settings: Settings) -> None:
    """Key, value, headers and partition are written as they were given, in their order."""
    topic = new_topic(settings, 3)
    headers = (("round", b""), ("hop", b"1"), ("hop", b"2"))
    async with publishing(settings) as publisher:
        await asyncio.gather(*(publisher.publish(Outgoing(topic, b"k", b"%d" % n, headers, 2)) for n in range(50)))
        await publisher.publish(Outgoing(topic, None, None, (), 1))
    found = consume(settings, topic, 51)
    numbered = [message for message in found if message.partition() == 2]
    assert [message.value() for message in numbered] == [b"%d" % number for number in range(50)]
    assert {(message.key(), headers_of(message)) for message in numbered} == {(b"k", headers)}
    (empty,) = (message for message in found if message.partition() == 1)
    assert (empty.key(), empty.value(), empty.headers()) == (None, None, None)


async def test_keys_choose_partitions_as_other_clients_do(settings: Settings) -> None:
    """The partition of a key is murmur2's, as in Java: the same webhook is on the same partition everywhere."""
    topic = new_topic(settings, 12)
    async with publishing(settings) as publisher:
        for key in (b"acme/wh_1", b"acme/wh_2", b"foobar", b"21"):
            await publisher.publish(Outgoing(topic, key, b""))
    places = {message.key(): message.partition() for message in consume(settings, topic, 4)}
    assert places == {key: _murmur2(key or b"") % 12 for key in places}


def _murmur2(data: bytes) -> int:
    """`Utils.toPositive(Utils.murmur2(key))` of Kafka's Java client."""
    mask, mixed = 0xFFFFFFFF, 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * 0x5BD1E995 & mask
        mixed = (mixed * 0x5BD1E995 & mask) ^ ((word ^ word >> 24) * 0x5BD1E995 & mask)
    if rest := data[whole:]:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & mask
    mixed = (mixed ^ mixed >> 13) * 0x5BD1E995 & mask
    return (mixed ^ mixed >> 15) & 0x7FFFFFFF


async def test_a_record_that_the_broker_refuses_is_a_fault(settings: Settings) -> None:
    """What a topic does not take is raised from its report, with the topic's name, and others go on."""
    topic = new_topic(settings, config={"max.message.bytes": "1000"})
    async with publishing(settings) as publisher:
        with pytest.raises(PipelineError, match=f"a record for {topic} was refused"):
            await publisher.publish(Outgoing(topic, None, bytes(2_000)))
        assert (await publisher.publish(Outgoing(topic, None, b"small"))).offset == 0


async def test_a_record_that_no_client_takes_leaves_nothing_behind() -> None:
    """A record that cannot even be handed over counts neither as unreported nor as silence of the broker."""
    async with publishing(NOWHERE) as publisher:
        with pytest.raises(KafkaException):
            publisher.publish(Outgoing("any", None, bytes(10 * 1024 * 1024)))
        assert publisher.unreported_bytes == 0
        assert await publisher.flush(0)


async def test_who_writes_too_much_waits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound `room` waits until enough has been reported."""
    monkeypatch.setattr(module, "UNREPORTED_BYTES", 10_000)
    topic = new_topic(settings)
    async with publishing(settings) as publisher:
        await asyncio.wait_for(publisher.room(), 1)
        report = publisher.publish(Outgoing(topic, None, bytes(20_000)))
        waiting = [asyncio.create_task(publisher.room()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await asyncio.gather(report, *waiting)
        assert publisher.unreported_bytes == 0


async def test_who_stops_waiting_disturbs_nobody(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled waiter for room leaves the others theirs, and the publisher its reports."""
    monkeypatch.setattr(module, "UNREPORTED_BYTES", 10_000)
    topic = new_topic(settings)
    async with publishing(settings) as publisher:
        publisher.publish(Outgoing(topic, None, bytes(20_000)))
        gone, there = (asyncio.create_task(publisher.room()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(there, PATIENCE_S)
        await asyncio.wait_for(publisher.publish(Outgoing(topic, None, b"after")), PATIENCE_S)


async def test_a_report_that_nobody_waits_for_is_counted(settings: Settings) -> None:
    """A report whose waiter was cancelled is still waited for by `flush`, and its bytes are given back."""
    topic = new_topic(settings)
    async with publishing(settings) as publisher:
        publisher.publish(Outgoing(topic, None, b"x")).cancel()
        await publisher.publish(Outgoing(topic, None, b"y"))
        assert publisher.unreported_bytes == 0
        assert await publisher.flush(PATIENCE_S)


async def test_flush_says_what_is_missing() -> None:
    """Without a broker `flush` gives up after its time and says so."""
    async with publishing(NOWHERE) as publisher:
        report = publisher.publish(SMALL)
        assert not await publisher.flush(0.05)
        assert not report.done()


async def test_a_worker_waits_for_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without a timeout stays unreported as long as it takes; after a while the broker counts as silent."""
    async with publishing(NOWHERE) as publisher:
        silent = [publisher.silent]
        report = publisher.publish(SMALL)
        silent.append(publisher.silent)
        monkeypatch.setattr(module, "_SILENT_S", 0.0)
        assert [*silent, publisher.silent] == [False, False, True]
        await asyncio.wait({report}, timeout=0.3)
        assert not report.done()


async def test_the_api_does_not() -> None:
    """With a timeout the report raises `Unreachable`, which says that the record may have been written."""
    async with publishing(NOWHERE, timeout_s=0.2) as publisher:
        with pytest.raises(Unreachable, match="may or may not be stored"):
            await asyncio.wait_for(publisher.publish(SMALL), PATIENCE_S)
        assert publisher.unreported_bytes == 0


@pytest.mark.faults
async def test_an_outage_loses_nothing(tmp_path: Path) -> None:
    """What is written while the broker is away is written once, in order, when it is back."""
    with live_cluster(tmp_path) as cluster:
        settings = settings_of(cluster)
        topic = new_topic(settings)
        async with publishing(settings) as publisher:
            await publisher.publish(Outgoing(topic, None, b"0"))
            await asyncio.to_thread(cluster.kill_broker)
            reports = [publisher.publish(Outgoing(topic, None, b"%d" % number)) for number in range(1, 20)]
            await asyncio.to_thread(cluster.start_broker)
            assert [report.offset for report in await asyncio.gather(*reports)] == list(range(1, 20))
        assert [message.value() for message in consume(settings, topic, 20)] == [b"%d" % n for n in range(20)]
