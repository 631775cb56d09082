from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.errors import Unreachable
from pipeline.kafka.table import Table
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, eventually, new_topic, produce, producing, settings_of
from tests.live_cluster import LiveCluster

COMPACTED = {"cleanup.policy": "compact"}


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def topic(settings: Settings) -> str:
    return new_topic(settings, config=COMPACTED)


@pytest.fixture
def transaction(settings: Settings) -> Callable[[], Producer]:
    """Makes a producer with a transaction begun."""

    def begin() -> Producer:
        producer = producing(settings, transactional_id=f"tests-{id(settings)}")
        producer.init_transactions(PATIENCE_S)
        producer.begin_transaction()
        return producer

    return begin


def shown(table: Table, topic: str) -> dict[str, bytes | None]:
    return {key: table.get(topic, key) for key in table.keys(topic)}


async def test_it_is_read_to_the_end_before_it_is_used(settings: Settings, topic: str) -> None:
    """Inside `async with` the newest record of every key is there, in as many topics as were asked for."""
    other = new_topic(settings, 3, COMPACTED)
    produce(settings, topic, [(f"k{number}", b"old") for number in range(3_000)])
    produce(settings, topic, [(f"k{number}", b"new %d" % number) for number in range(3_000)])
    for partition in range(3):
        produce(settings, other, [(f"p{partition}", b"x")], partition)
    async with Table(settings, (topic, other)) as table:
        assert shown(table, topic) == {f"k{number}": b"new %d" % number for number in range(3_000)}
        assert set(shown(table, other)) == {"p0", "p1", "p2"}
        assert table.offset(topic) == 6_000


async def test_a_topic_that_is_only_followed(settings: Settings, topic: str) -> None:
    """It is read to its end at the beginning and kept up, of all its partitions; nobody waits for it after that."""
    followed = new_topic(settings, 3, COMPACTED)
    for partition in range(3):
        produce(settings, followed, [(f"p{partition}", b"old")], partition)
    async with Table(settings, (topic,), (followed,)) as table:
        assert shown(table, followed) == {"p0": b"old", "p1": b"old", "p2": b"old"}
        assert await table.ends() == {(topic, 0): 0}
        produce(settings, followed, [("p1", b"new"), ("p1", None), ("p3", b"new")], 1)
        await eventually(lambda: shown(table, followed) == {"p0": b"old", "p2": b"old", "p3": b"new"})


async def test_an_empty_topic_is_at_its_end(settings: Settings, topic: str) -> None:
    """A topic without records is ready at once."""
    async with Table(settings, (topic,)) as table:
        assert (shown(table, topic), table.offset(topic)) == ({}, 0)


async def test_the_end_lies_past_transaction_markers(
    settings: Settings, topic: str, transaction: Callable[[], Producer]
) -> None:
    """Where the last record is a marker, and the records before it were aborted, the reader is there all the same."""
    produce(settings, topic, [("a", b"1")])
    producer = transaction()
    producer.produce(topic, b"2", "b")
    producer.commit_transaction(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(topic, b"3", "a")
    producer.produce(topic, b"3", "c")
    assert producer.flush(PATIENCE_S) == 0
    producer.abort_transaction(PATIENCE_S)
    async with Table(settings, (topic,)) as table:
        assert shown(table, topic) == {"a": b"1", "b": b"2"}
        assert table.offset(topic) == 6
        assert await table.ends() == {(topic, 0): 6}


async def test_an_open_transaction_keeps_nobody_waiting(
    settings: Settings, topic: str, transaction: Callable[[], Producer]
) -> None:
    """The end is the last stable offset: what is not committed yet is neither seen nor waited for until it is."""
    produce(settings, topic, [("a", b"1")])
    producer = transaction()
    producer.produce(topic, b"2", "b")
    assert producer.flush(PATIENCE_S) == 0
    async with Table(settings, (topic,)) as table:
        assert shown(table, topic) == {"a": b"1"}
        assert await table.ends() == {(topic, 0): 1}
        await asyncio.to_thread(producer.commit_transaction, PATIENCE_S)
        await asyncio.wait_for(table.reached(topic, 2), PATIENCE_S)
        assert shown(table, topic) == {"a": b"1", "b": b"2"}


async def test_a_tombstone_removes(settings: Settings, topic: str) -> None:
    """A key whose newest record is a tombstone is gone, also from its group; one that comes back is there."""
    produce(settings, topic, [("t/1", b"x"), ("t/2", b"x"), ("u/1", b"x"), ("t/1", None), ("u/1", None), ("v/1", None)])
    async with Table(settings, (topic,)) as table:
        assert set(table.keys(topic)) == {"t/2"}
        assert list(table.keys(topic, "t")) == ["t/2"]
        assert list(table.keys(topic, "u")) == list(table.keys(topic, "v")) == []
        produce(settings, topic, [("u/1", b"y"), ("t/2", None)])
        await table.reached(topic, 8)
        assert shown(table, topic) == {"u/1": b"y"}
        assert list(table.keys(topic, "u")) == ["u/1"]


async def test_it_is_followed(settings: Settings, topic: str) -> None:
    """Whoever waits for an offset is woken when it has been read, and not before; what is there is not waited for."""
    async with Table(settings, (topic,)) as table:
        await asyncio.wait_for(table.reached(topic, 0), 1)
        first, second = (asyncio.create_task(table.reached(topic, offset)) for offset in (1, 2))
        produce(settings, topic, [("a", b"1")])
        await asyncio.wait_for(first, PATIENCE_S)
        assert not second.done()
        assert table.get(topic, "a") == b"1"
        produce(settings, topic, [("a", b"2")])
        await asyncio.wait_for(second, PATIENCE_S)
        assert table.get(topic, "a") == b"2"


async def test_one_that_stops_waiting_disturbs_nobody(settings: Settings, topic: str) -> None:
    """A cancelled waiter leaves the others theirs."""
    async with Table(settings, (topic,)) as table:
        gone, there = (asyncio.create_task(table.reached(topic, 1)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        produce(settings, topic, [("a", b"1")])
        await asyncio.wait_for(there, PATIENCE_S)


async def test_changes_are_told(settings: Settings, topic: str) -> None:
    """A watcher hears of every change, with topic and key, when it can be seen."""
    heard: list[tuple[str, str, bytes | None]] = []
    async with Table(settings, (topic,)) as table:
        table.watch(lambda name, key: heard.append((name, key, table.get(name, key))))
        produce(settings, topic, [("a", b"1"), ("b", b"2"), ("a", None)])
        await table.reached(topic, 3)
    assert heard == [(topic, "a", b"1"), (topic, "b", b"2"), (topic, "a", None)]


async def test_a_trimmed_topic_is_read_from_where_it_begins(settings: Settings, topic: str) -> None:
    """Where the log no longer begins at 0, what is left of it is read."""
    trimmed = new_topic(settings, config={"cleanup.policy": "compact,delete"})
    produce(settings, trimmed, [("a", b"1"), ("b", b"2"), ("c", b"3")])
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    (answer,) = admin.delete_records([TopicPartition(trimmed, 0, 2)]).values()
    answer.result(PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), Table(settings, (topic, trimmed)) as table:
        assert shown(table, trimmed) == {"c": b"3"}


async def test_a_key_that_is_no_text_stops_nothing(settings: Settings, topic: str) -> None:
    """A foreign record with a key of any bytes is passed by."""
    produce(settings, topic, [(b"\xff\xfe", b"x"), (b"", b"x"), ("a", b"1")])
    async with asyncio.timeout(PATIENCE_S), Table(settings, (topic,)) as table:
        assert table.get(topic, "a") == b"1"


async def test_a_missing_topic_is_named(settings: Settings) -> None:
    """A topic that is not there is told with the command that makes it."""
    with pytest.raises(Unreachable, match=r"topic never-made is not there.*pipeline topics create"):
        async with Table(settings, ("never-made",)):
            pass


async def test_no_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker a view is not waited for without end."""
    monkeypatch.setattr("pipeline.kafka.table._ASK_S", 0.3)
    with pytest.raises(Unreachable, match="no Kafka broker answers"):
        async with Table(Settings(bootstrap_servers="127.0.0.1:1"), ("any",)):
            pass


async def test_schemas_of_the_values_are_known_by_their_heads(settings: Settings, topic: str) -> None:
    """The first five bytes of every value seen are kept, so that the schemas can be learned."""
    produce(settings, topic, [("a", b"\x00\x00\x00\x00\x07abc"), ("b", b"\x00\x00\x00\x00\x08"), ("a", None)])
    async with Table(settings, (topic,)) as table:
        assert {b"\x00\x00\x00\x00\x07", b"\x00\x00\x00\x00\x08"} <= table.heads


async def test_it_stops_when_told(settings: Settings, topic: str) -> None:
    """After `async with` nothing is read any more."""
    async with Table(settings, (topic,)) as table:
        pass
    produce(settings, topic, [("a", b"1")])
    assert not table._thread.is_alive()
    await eventually(lambda: table.get(topic, "a") is None)
