"""Watching what becomes of events: the records of `events`, `attempts` and `retry-dlq` from now on, decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Lock

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.errors import Undecodable, Unreachable, UsageError
from pipeline.flow.deadletter import DeadLetter
from pipeline.flow.deliver import Attempt
from pipeline.flow.event import Event
from pipeline.kafka import topics
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.codec import Codec
from pipeline.kafka.messages import as_record
from pipeline.ports import Record
from pipeline.settings import Settings

Seen = Event | Attempt | DeadLetter

_TOPICS = (topics.EVENTS, topics.ATTEMPTS, topics.DEAD_LETTERS)
_TIMEOUT_S = 10.0
_BATCH = 500
_WAIT_S = 0.1
_log = structlog.get_logger()


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[AsyncIterator[list[Seen]]]:
    """Batches of what is written after the entry, without an end; an empty one when nothing came for a while.

    It has no group and leaves no trace. A record that cannot be read is logged and left out. Raises `Unreachable`, and
    `UsageError` for a topic that is not there.
    """
    codec = await Codec.open(settings)
    consumer = Consumer(consumer_config(settings, group_id="pipeline-watch", auto_offset_reset="latest"))
    alone = Lock()  # a consumer must not be closed while another thread polls it
    try:
        consumer.assign(await asyncio.to_thread(_ends, consumer))
        yield _batches(consumer, alone, codec)
    finally:
        await asyncio.to_thread(_close, consumer, alone)


async def _batches(consumer: Consumer, alone: Lock, codec: Codec) -> AsyncIterator[list[Seen]]:
    while True:
        records = await asyncio.to_thread(_poll, consumer, alone)
        await codec.learn(record.value for record in records)
        yield [seen for record in records if (seen := _decoded(codec, record))]


def _poll(consumer: Consumer, alone: Lock) -> list[Record]:
    with alone:
        messages = consumer.consume(_BATCH, _WAIT_S)
    return [as_record(message) for message in messages if message.error() is None]


def _close(consumer: Consumer, alone: Lock) -> None:
    with alone:
        consumer.close()


def _decoded(codec: Codec, record: Record) -> Seen | None:
    try:
        match record.topic:
            case topics.EVENTS:
                return codec.event(record)
            case topics.ATTEMPTS:
                return codec.attempt(record.value)
            case _:
                letter = codec.dead_letter(record.value)
                return letter if letter.redriven_ms is None else None  # which has been seen before
    except Undecodable as error:
        _log.warning("unreadable", topic=record.topic, offset=record.offset, reason=error.reason)
        return None


def _ends(consumer: Consumer) -> list[TopicPartition]:
    """Where the topics end now, asked for here and not when the first record is fetched: nothing between is missed."""
    return [place for topic in _TOPICS for place in _ends_of(consumer, topic)]


def _ends_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    try:
        found = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise UsageError(f"topic {topic} is not there: run `pipeline topics create`")
        places = [TopicPartition(topic, number) for number in found.partitions]
        ends = [consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)[1] for place in places]
    except KafkaException as error:
        raise Unreachable(f"no Kafka broker answers: {error.args[0].str()}") from error
    return [TopicPartition(topic, place.partition, end) for place, end in zip(places, ends, strict=True)]
