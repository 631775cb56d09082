"""A service in Python: confluent_kafka's own serializer, which registers the schema that it is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    SchemaRegistryClient,
    record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

Place = tuple[int, int]
"""Partition and offset."""

TOPIC = "events"


@dataclass(frozen=True, slots=True)
class Service:
    """Encodes with stock parts and writes to `events`."""

    producer: Producer
    registry: SchemaRegistryClient

    def encode(self, schema: Mapping[str, Any], value: Mapping[str, Any], *, by_record: bool = False) -> bytes:
        """The value in the Confluent wire format; the schema is registered for the topic, or by the record's name."""
        strategy = record_subject_name_strategy if by_record else topic_subject_name_strategy
        serialize = AvroSerializer(self.registry, json.dumps(schema), conf={"subject.name.strategy": strategy})
        encoded = serialize(dict(value), SerializationContext(TOPIC, MessageField.VALUE))
        assert isinstance(encoded, bytes)
        return encoded

    def produce(
        self,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        *,
        key: str | None = None,
        partition: int = -1,
    ) -> Place:
        """Write one record; its place when the broker has it."""
        places: list[Place] = []

        def reported(error: object, message: Any) -> None:
            assert error is None, error
            places.append((message.partition(), message.offset()))

        self.producer.produce(TOPIC, value, key, partition, headers=dict(headers or {}), on_delivery=reported)
        assert self.producer.flush(30) == 0
        return places[0]


@contextmanager
def service(bootstrap: str, registry: str, **properties: object) -> Iterator[Service]:
    """A service with producer and registry client of its own."""
    producer = Producer({"bootstrap.servers": bootstrap, "client.id": "shop", **properties})
    with SchemaRegistryClient({"url": registry}) as client:
        try:
            yield Service(producer, client)
        finally:
            producer.close()
