"""Topics, records and offsets on the run's broker, as anyone's client makes and sees them."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.settings import Settings
from tests.live_cluster import LiveCluster

PATIENCE_S = 20.0
_LOOK_S = 0.01
_numbers = itertools.count()


def settings_of(cluster: LiveCluster, folder: Path = Path("data")) -> Settings:
    return Settings(bootstrap_servers=cluster.bootstrap, schema_registry=cluster.registry, data_dir=folder)


def new_topic(
    settings: Settings, partitions: int = 1, config: Mapping[str, str] | None = None, name: str | None = None
) -> str:
    """A topic of the test's own."""
    name = name or f"test-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result(PATIENCE_S)
    return name


def producing(settings: Settings, **properties: object) -> Producer:
    config = {name.replace("_", "."): value for name, value in properties.items()}
    return Producer({"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 0, **config})


def produce(
    settings: Settings, topic: str, records: Iterable[tuple[str | bytes | None, bytes | None]], partition: int = 0
) -> None:
    """Write these keys and values, and wait until they are there."""
    producer, refused = producing(settings), list[KafkaError]()
    for key, value in records:
        producer.produce(
            topic, value, key, partition, on_delivery=lambda error, _: refused.append(error) if error else None
        )
    assert producer.flush(PATIENCE_S) == 0
    assert not refused


def consume(settings: Settings, topic: str, count: int, within_s: float = PATIENCE_S) -> list[Message]:
    """The first so many records of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "tests-read",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 9 * 1024 * 1024,
        }
    )
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        found: list[Message] = []
        until = time.monotonic() + within_s
        while len(found) < count:
            assert time.monotonic() < until, f"{len(found)} of {count} records of {topic}"
            found += consumer.consume(count - len(found), 0.1)
        assert not [message.error() for message in found if message.error()]
        return found
    finally:
        consumer.close()


def headers_of(message: Message) -> tuple[tuple[str, bytes], ...]:
    headers: Any = message.headers() or ()
    return tuple(headers)


def committed(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """The group's offset of each partition that has one."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(PATIENCE_S)
    return {p.partition: p.offset for p in asked.topic_partitions or () if p.topic == topic and p.offset >= 0}


async def eventually(look: Callable[[], bool], what: str = "", within_s: float = PATIENCE_S) -> None:
    """Return as soon as it is so, looking again and again."""
    until = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < until, f"not so after {within_s} s: {what}"
        await asyncio.sleep(_LOOK_S)
