"""A window of a real log read from its beginning to its end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from pipeline.flow.replay import Span
from pipeline.kafka import topics
from pipeline.kafka.scan import Scan
from pipeline.ports import Record
from pipeline.settings import Settings
from pipeline.workers.sifting import Fate, Names
from tests.kafka.live import PATIENCE_S, new_topic, produce, producing, settings_of
from tests.live_cluster import LiveCluster

pytestmark = pytest.mark.replay

KEPT = {"retention.ms": "-1"}
HEAD = b"\0\0\0\0\1"


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def topic(settings: Settings) -> str:
    """Two partitions with 100 records each, whose values are their offsets."""
    name = new_topic(settings, 2, KEPT)
    for partition in (0, 1):
        produce(settings, name, ((None, b"%d" % n) for n in range(100)), partition)
    return name


async def read(scan: Scan, limit: int = 30) -> list[Record]:
    """To the window's end."""
    found: list[Record] = []
    until = time.monotonic() + PATIENCE_S
    while not scan.over:
        assert time.monotonic() < until, (len(found), scan.next)
        part = await scan.read(limit, 0.2)
        assert len(part) <= limit
        found += part
    return found


def places(records: Sequence[Record]) -> list[tuple[int, int]]:
    assert all(record.value == b"%d" % record.offset for record in records)
    return sorted((record.partition, record.offset) for record in records)


def delete(settings: Settings, topic: str, partition: int, below: int) -> None:
    """As retention does."""
    client, place = topics.admin(settings), TopicPartition(topic, partition, below)
    client.delete_records([place])[place].result(PATIENCE_S)


async def test_exactly_the_window_is_read(settings: Settings, topic: str) -> None:
    """Each of its records once, in order, and none before or beyond; `next` comes to the end of each partition."""
    async with Scan(settings, topic, [Span(0, 10, 95), Span(1, 98, 100)]) as scan:
        found = await read(scan)
        assert await scan.read(5, 0.0) == []
    assert places(found) == [*((0, n) for n in range(10, 95)), (1, 98), (1, 99)]
    assert [record.offset for record in found if record.partition == 0] == list(range(10, 95))
    assert (scan.next, scan.gone) == ({0: 95, 1: 100}, 0)


async def test_next_is_what_follows_what_was_given_out(settings: Settings, topic: str) -> None:
    """A reader that begins there later goes on without a gap or a repeat."""
    spans = [Span(0, 0, 100), Span(1, 0, 100)]
    async with Scan(settings, topic, spans) as scan:
        first: list[Record] = []
        while len(first) < 50:
            first += await scan.read(7, 0.5)
        reached = dict(scan.next)
    async with Scan(settings, topic, [Span(p, reached[p], 100) for p in (0, 1)]) as scan:
        rest = await read(scan)
    assert places([*first, *rest]) == [(p, n) for p in (0, 1) for n in range(100)]


async def test_a_window_that_ends_in_what_was_never_committed_is_over(settings: Settings, topic: str) -> None:
    """Markers and records of an aborted transaction have offsets, and nobody is shown them."""
    config: dict[str, Any] = {"bootstrap.servers": settings.bootstrap_servers, "transactional.id": uuid.uuid4().hex}
    producer = Producer(config)
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(topic, b"100", None, 0)
    assert producer.flush(PATIENCE_S) == 0
    producer.abort_transaction(PATIENCE_S)
    produce(settings, topic, [(None, b"102")])
    async with Scan(settings, topic, [Span(0, 98, 102)]) as scan:
        assert places(await read(scan)) == [(0, 98), (0, 99)]
    assert (scan.next, scan.gone) == ({0: 102}, 0)
    async with Scan(settings, topic, [Span(0, 100, 101)]) as scan:  # all of it, and the log goes on
        assert await read(scan) == []


async def test_what_retention_has_taken_is_counted(settings: Settings, topic: str) -> None:
    """Of a part of a partition, of the whole window of another: the rest is read, and nothing is passed over."""
    delete(settings, topic, 0, 40)
    delete(settings, topic, 1, 60)
    async with Scan(settings, topic, [Span(0, 10, 50), Span(1, 20, 50)]) as scan:
        assert places(await read(scan)) == [(0, n) for n in range(40, 50)]
    assert (scan.taken, scan.gone) == ({0: 30, 1: 30}, 60)


async def test_what_retention_takes_while_it_is_read_is_counted(settings: Settings) -> None:
    """Also where it overtakes the reader: what was read and what is gone are the whole window."""
    topic = new_topic(settings, 1, KEPT)
    produce(settings, topic, ((None, bytes(100_000)) for _ in range(600)))  # more than is fetched ahead
    async with Scan(settings, topic, [Span(0, 0, 600)]) as scan:
        first = await scan.read(1, PATIENCE_S)
        delete(settings, topic, 0, 590)
        found = [*first, *await read(scan)]
    offsets = [record.offset for record in found]
    assert offsets == sorted(set(offsets))
    assert set(range(590, 600)) <= set(offsets)
    assert scan.gone > 0
    assert len(offsets) + scan.gone == 600


async def test_a_window_beyond_the_logs_end_is_gone(settings: Settings, topic: str) -> None:
    """A broker that lost the end of its log has nothing there; what it still has is not taken for it."""
    async with Scan(settings, topic, [Span(0, 150, 160), Span(1, 99, 100)]) as scan:
        assert places(await read(scan)) == [(1, 99)]
    assert scan.taken == {0: 10}


async def test_a_call_that_is_given_up_does_not_disturb_the_end(settings: Settings, topic: str) -> None:
    """Whoever asked may go at any moment: the consumer is closed when its thread is done with it."""
    async with Scan(settings, topic, [Span(0, 0, 101)]) as scan:
        while scan.next[0] < 100:
            await scan.read(100, 0.5)
        waiting = asyncio.ensure_future(scan.read(100, 0.5))
        await asyncio.sleep(0)
        waiting.cancel()


async def test_a_reader_that_is_put_back_gives_nothing_out_twice(settings: Settings, topic: str) -> None:
    """As when one partition is read on behind what is gone: what others had fetched by then is fetched again."""
    async with Scan(settings, topic, [Span(0, 0, 100), Span(1, 0, 100)]) as scan:
        found: list[Record] = []
        while min(scan.next.values()) < 20:
            found += await scan.read(7, 0.5)
        await scan._in_thread(lambda: scan._consumer.assign([TopicPartition(topic, p, 5) for p in (0, 1)]))
        found += await read(scan)
    assert places(found) == [(p, n) for p in (0, 1) for n in range(100)]


async def test_a_window_is_sorted_as_it_is_read(settings: Settings) -> None:
    """What is held back for want of a fate belongs to the window: it is not over before that has been given out."""
    topic, producer = new_topic(settings, 1, KEPT), producing(settings)
    for n in range(100):
        kind = b"a" if n % 2 else b"b"
        producer.produce(topic, HEAD + b"%d" % n, headers=[("tenant", b"acme"), ("type", kind)])
    assert producer.flush(PATIENCE_S) == 0
    fates = dict[Names, Fate]()
    scanned, counted, offsets = 0, 0, list[int]()
    async with Scan(settings, topic, [Span(0, 0, 100)], HEAD) as scan:
        while not scan.over:
            part = await scan.sift(1_000, 0.5, fates)
            scanned += part.scanned
            counted += sum(tally.events for tally in part.counted.values())
            offsets += [record.offset for record in part.read]
            if scan.next[0] == 100:
                fates.update({(b"acme", b"a"): Fate.COUNT, (b"acme", b"b"): Fate.READ})
    assert (scanned, counted, offsets) == (100, 50, list(range(0, 100, 2)))
