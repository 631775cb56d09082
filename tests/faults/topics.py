"""What the harness reads from Kafka itself: every attempt, ends, and which partitions are not finished."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.faults.flight import Try

REPLAYER = "pipeline-replayer"
_GROUPS = ("pipeline-router", "pipeline-sender", "pipeline-delay", REPLAYER)
_FRAME = 5
_TIMEOUT_S = 30.0
_SCHEMAS = Path(__file__).parents[2] / "schemas"


def tries(bootstrap: str) -> dict[str, list[Try]]:
    """Every record of `attempts`, by delivery."""
    schema = _schema("attempt")
    found: dict[str, list[Try]] = {}
    for message in _whole(bootstrap, "attempts"):
        value: Any = fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[_FRAME:]), schema, None)
        one = Try(value["started"], value["duration_ms"], message.timestamp()[1])
        found.setdefault(value["delivery"], []).append(one)
    return found


def dead(bootstrap: str) -> int:
    """How many dead letters there are."""
    return sum(1 for _ in _whole(bootstrap, "retry-dlq"))


def ends_of(bootstrap: str, topic: str) -> dict[int, int]:
    """Where each partition of a topic ends now."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    numbers = client.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
    asked = client.list_offsets({TopicPartition(topic, number): OffsetSpec.latest() for number in numbers})
    return {place.partition: end.result(_TIMEOUT_S).offset for place, end in asked.items()}


def lagging(bootstrap: str, groups: Iterable[str] = _GROUPS) -> dict[str, int]:
    """The partitions that a stage has not finished, as `group topic[number]`, and how many records each."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    behind: dict[str, int] = {}
    for group in groups:
        asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        held = asked[group].result(_TIMEOUT_S).topic_partitions or []
        ends = client.list_offsets({TopicPartition(p.topic, p.partition): OffsetSpec.latest() for p in held})
        at = {(p.topic, p.partition): end.result(_TIMEOUT_S).offset for p, end in ends.items()}
        left = {f"{group} {p.topic}[{p.partition}]": at[p.topic, p.partition] - p.offset for p in held}
        behind |= {name: count for name, count in left.items() if count > 0}
    return behind


def _whole(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every record of a topic, up to the end that it has now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "faults-reader", "enable.auto.commit": False})
    try:
        numbers = consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
        for number in numbers:
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), _TIMEOUT_S)
            if first < end:
                consumer.assign([TopicPartition(topic, number, first)])
                yield from _until(consumer, end)
    finally:
        consumer.close()


def _until(consumer: Consumer, end: int) -> Iterator[Message]:
    while True:
        for message in consumer.consume(1_000, 1.0):
            if (error := message.error()) is not None:
                raise RuntimeError(f"what was written cannot be read: {error.str()}")
            yield message
            if (message.offset() or 0) + 1 >= end:
                return


def _schema(name: str) -> Any:
    return fastavro.parse_schema(_plain(json.loads((_SCHEMAS / f"{name}.avsc").read_text())))


def _plain(schema: Any) -> Any:
    """Times as the numbers that they are."""
    match schema:
        case dict():
            return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
        case list():
            return [_plain(item) for item in schema]
    return schema
