"""Reads the flow's own topics as anyone may: a stock consumer with the registry's stock deserializer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

Decoded = dict[str, Any]
Wanted = Callable[[Decoded], bool]


class Following:
    """One topic from now on; remembers all that it has read."""

    def __init__(self, bootstrap: str, registry: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"follows-{topic}", "enable.auto.commit": False}
        )
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        here = [TopicPartition(topic, number) for number in partitions]
        ends = [self._consumer.get_watermark_offsets(one, timeout=10)[1] for one in here]
        self._consumer.assign([TopicPartition(topic, one.partition, end) for one, end in zip(here, ends, strict=True)])
        self._registry = SchemaRegistryClient({"url": registry, "timeout": 10})
        self._decode = AvroDeserializer(self._registry)
        self._place = SerializationContext(topic, MessageField.VALUE)
        self._read: list[Decoded] = []

    def until(self, wanted: Wanted, count: int = 1, within_s: float = 30.0) -> list[Decoded]:
        """The records that are wanted, once there are so many of them; fails with what is there instead."""
        until = time.monotonic() + within_s
        while len(found := self.read(wanted)) < count:
            left = until - time.monotonic()
            assert left > 0, f"{len(found)} of {count} records after {within_s} s; the last read: {self._read[-3:]}"
            self._poll(min(left, 0.5))
        return found

    def read(self, wanted: Wanted) -> list[Decoded]:
        """The wanted ones among those read so far, in the order of their reading."""
        return [record for record in self._read if wanted(record)]

    def close(self) -> None:
        """Leave the broker and the registry."""
        self._consumer.close()
        self._registry.close()

    def _poll(self, timeout_s: float) -> None:
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(500, 0)]
        for message in messages:
            assert message.error() is None, message.error()
            self._read.append(self._decode(message.value(), self._place))
