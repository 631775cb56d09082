"""Reading a topic as it comes, without a group and without a trace: for people who look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from pipeline.errors import Unreachable, UsageError
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.messages import as_record
from pipeline.ports import Record
from pipeline.settings import Settings

Start = Literal["earliest", "latest"] | int
"""Where to begin: an end of the log, or a time in milliseconds since the epoch."""

_TIMEOUT_S = 10.0
_BATCH = 500
_WAIT_S = 0.2


async def tail(settings: Settings, topic: str, start: Start = "latest") -> AsyncGenerator[list[Record], None]:
    """The topic's records in batches, from `start` on and without an end; an empty batch when nothing came for a while.

    Raises `Unreachable`, and `UsageError` for a topic that is not there.
    """
    consumer = Consumer(consumer_config(settings, group_id="pipeline-tail", auto_offset_reset="latest"))
    try:
        consumer.assign(await asyncio.to_thread(_starts, consumer, topic, start))
        while True:
            messages = await asyncio.to_thread(consumer.consume, _BATCH, _WAIT_S)
            yield [as_record(message) for message in messages if message.error() is None]
    finally:
        await asyncio.to_thread(consumer.close)


def _starts(consumer: Consumer, topic: str, start: Start) -> list[TopicPartition]:
    try:
        found = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise UsageError(f"topic {topic} is not there: run `pipeline topics create`")
        if start in ("earliest", "latest"):
            offset = OFFSET_BEGINNING if start == "earliest" else OFFSET_END
            return [TopicPartition(topic, number, offset) for number in found.partitions]
        wanted = [TopicPartition(topic, number, int(start)) for number in found.partitions]
        return consumer.offsets_for_times(wanted, timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise Unreachable(f"no Kafka broker answers: {error.args[0].str()}") from error
