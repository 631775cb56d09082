"""Single records of real topics, by where they lie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.errors import Unreachable
from pipeline.kafka.places import Places, _Reading
from pipeline.settings import Settings
from tests.kafka.live import new_topic, produce, producing, settings_of
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
async def places(settings: Settings) -> AsyncIterator[Places]:
    async with Places(settings) as reading:
        yield reading


def _filled(settings: Settings, count: int, partitions: int = 1) -> str:
    topic = new_topic(settings, partitions)
    produce(settings, topic, ((f"k{n}", b"v%d" % n) for n in range(count)), partitions - 1)
    return topic


async def test_a_record_is_read_by_its_place(settings: Settings, places: Places) -> None:
    """Key, value and place are the record's own, also when it is asked for again."""
    topic = _filled(settings, 20, partitions=3)
    for _ in range(2):
        found = await places.read(topic, 2, [7])
        assert {at: (one.key, one.value, one.partition, one.offset) for at, one in found.items()} == {
            7: (b"k7", b"v7", 2, 7)
        }


async def test_many_are_read_together(settings: Settings, places: Places) -> None:
    """Near ones are read over, far ones sought; each is found, in whatever order they are asked for."""
    topic = _filled(settings, 3_000)
    wanted = [2_999, 0, 5, 6, 900, 2_500, 5]
    found = await places.read(topic, 0, wanted)
    assert {at: one.value for at, one in found.items()} == {at: b"v%d" % at for at in set(wanted)}
    assert await places.read(topic, 0, []) == {}


async def test_what_was_trimmed_is_not_there(settings: Settings, places: Places) -> None:
    """A record below the beginning of the log is left out, the others are found; an empty log has none."""
    topic = _filled(settings, 30)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for below, found in ((10, {10, 29}), (30, set[int]())):
        asked = admin.delete_records([TopicPartition(topic, 0, below)])
        for answer in asked.values():
            answer.result(20)
        assert set(await places.read(topic, 0, [0, 9, 10, 29])) == found


async def test_what_is_beyond_the_end_is_not_there(
    settings: Settings, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset that the log has not reached is left out, and the log is not read through to find that out."""
    topic = _filled(settings, 500)
    message, read = _Reading._message, list[int]()

    def counted(reading: _Reading) -> Message | None:
        read.append(1)
        return message(reading)

    monkeypatch.setattr(_Reading, "_message", counted)
    assert set(await places.read(topic, 0, [498, 501, 100_000])) == {498}
    assert await places.read(topic, 0, [4_000]) == {}
    assert len(read) < 10


async def test_holes_and_what_was_aborted_are_not_there(settings: Settings, places: Places) -> None:
    """A transaction's marker is no record; what was aborted is not read."""
    topic = _filled(settings, 2)
    producer = producing(settings, transactional_id=f"test-{topic}")
    producer.init_transactions(20)
    for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(20)
        end()
    found = await places.read(topic, 0, range(8))
    assert {at: one.value for at, one in found.items()} == {0: b"v0", 1: b"v1", 4: b"yes"}
    assert set(await places.read(topic, 0, [2, 3])) == set()


async def test_a_broker_that_is_down_is_told(settings: Settings) -> None:
    """After the deadline it is `Unreachable`; nothing hangs."""
    nowhere = replace(settings, bootstrap_servers="127.0.0.1:1")
    async with Places(nowhere, deadline_s=0.3) as places:
        with pytest.raises(Unreachable, match="of deliveries within"):
            await places.read("deliveries", 0, [1])


async def test_a_large_record_is_read(settings: Settings, places: Places) -> None:
    """One larger than a fetch comes all the same."""
    topic = new_topic(settings, config={"max.message.bytes": str(4 * 1024 * 1024)})
    produce(settings, topic, [("k", b"x" * 900_000), ("k", b"y" * 900_000)])
    assert {at: one.value for at, one in (await places.read(topic, 0, [1])).items()} == {1: b"y" * 900_000}
