from __future__ import annotations

from typing import Any

from confluent_kafka import Message

from pipeline.ports import Record


def as_record(message: Message) -> Record:
    """A message as librdkafka gives it (no error), as a record: raw bytes, nothing decoded."""
    headers: Any = message.headers() or ()  # a list of pairs, whatever its type says
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        tuple((name, value or b"") for name, value in headers),
        message.timestamp()[1],
    )
