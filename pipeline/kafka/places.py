"""Single records by where they lie: topic, partition, offset. Read without a group, committed ones only.

A consumer is assigned and sought in a thread; what is asked for together is read in one go where it lies close, and
sought anew where it does not. Consumers are kept for the next who ask.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Unreachable
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.messages import as_record
from pipeline.ports import Record
from pipeline.settings import Settings

DEADLINE_S = 5.0
"""How long Kafka may take for the next record that is wanted."""

_AT_ONCE = 4
_POLL_S = 0.25
_NEAR = 100
"""Records that are read over rather than sought across: a seek costs a request."""
_SMALL_FETCHES = {
    "fetch_message_max_bytes": 262_144,  # a larger record comes all the same, alone
    "queued_min_messages": 100,
    "queued_max_messages_kbytes": 4_096,
    "fetch_queue_backoff_ms": 1,
    "fetch_wait_max_ms": 20,
}


class Places:
    """Reads records by their places. `async with` lets go of the broker at the end."""

    def __init__(self, settings: Settings, deadline_s: float = DEADLINE_S) -> None:
        self._settings, self._deadline_s = settings, deadline_s
        self._threads = ThreadPoolExecutor(_AT_ONCE, "places")
        self._idle: deque[Consumer] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of the broker."""
        await asyncio.to_thread(self._close)

    async def read(self, topic: str, partition: int, offsets: Iterable[int]) -> dict[int, Record]:
        """The records at these offsets; one that is not there, or not any more, is left out. Raises `Unreachable`."""
        wanted = sorted(set(offsets))
        if not wanted:
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, topic, partition, wanted)

    def _read(self, topic: str, partition: int, wanted: list[int]) -> dict[int, Record]:
        consumer = self._consumer()
        try:
            reading = _Reading(consumer, topic, partition, wanted, self._deadline_s)
            found = {record.offset: record for record in reading}
            consumer.unassign()
        except KafkaException as error:
            consumer.close()
            raise Unreachable(f"Kafka does not give a record of {topic}: {error.args[0].str()}") from error
        except BaseException:
            consumer.close()
            raise
        self._idle.append(consumer)
        return found

    def _consumer(self) -> Consumer:
        with suppress(IndexError):
            return self._idle.pop()
        whole = {"enable_partition_eof": True, "auto_offset_reset": "earliest", **_SMALL_FETCHES}
        return Consumer(consumer_config(self._settings, group_id="pipeline-places", **whole))

    def _close(self) -> None:
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()


class _Reading:
    """Iterates over those of the wanted records, in ascending order, that are there."""

    def __init__(self, consumer: Consumer, topic: str, partition: int, wanted: list[int], deadline_s: float) -> None:
        self._consumer, self._topic, self._partition, self._deadline_s = consumer, topic, partition, deadline_s
        self._left = deque(wanted)
        self._sought = False
        self._seek()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        while self._left:
            message = self._message()
            if message is None or self._gone_back(message):
                break
            at = message.offset() or 0
            while self._left and self._left[0] < at:  # trimmed, or a hole
                self._left.popleft()
            if self._left and self._left[0] == at:
                self._left.popleft()
                return as_record(message)
            if self._left and self._left[0] - at > _NEAR:
                self._seek()
        raise StopIteration

    def _seek(self) -> None:
        self._consumer.assign([TopicPartition(self._topic, self._partition, self._left[0])])
        self._sought = True

    def _message(self) -> Message | None:
        """The next one; None at the end of the log."""
        until = time.monotonic() + self._deadline_s
        while time.monotonic() < until:
            message = self._consumer.poll(_POLL_S)
            if message is None:
                continue
            if (error := message.error()) is None:
                return message
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name of it
                return None
        raise Unreachable(f"Kafka has not given a record of {self._topic} within {self._deadline_s:g} s")

    def _gone_back(self, message: Message) -> bool:
        """Whether the seek was beyond the log's end: reading has begun at its first record instead."""
        sought, self._sought = self._sought, False
        return sought and (message.offset() or 0) < self._left[0]
