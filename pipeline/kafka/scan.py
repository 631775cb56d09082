"""A window of a topic read from its beginning to its end: without a group, without a trace, committed records only.

Kafka is asked in a thread of the scan's own. What retention takes of the window while it is read is counted, never
passed over in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Unreachable
from pipeline.flow.replay import Span
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.messages import as_record
from pipeline.kafka.sieve import Sorting
from pipeline.ports import Record
from pipeline.settings import Settings
from pipeline.workers.sifting import Fate, Names, Sifted

_ASK_S = 10.0
_AHEAD: Mapping[str, object] = {
    "enable_partition_eof": True,
    "auto_offset_reset": "error",  # what is gone is counted before it goes on
    "queued_max_messages_kbytes": 8_192,
    "fetch_message_max_bytes": 1_048_576,  # a larger record comes all the same, alone
    "fetch_queue_backoff_ms": 10,
    "check_crcs": False,
}

T = TypeVar("T")


class Scan:
    """The records of these spans. `async with`; one call at a time.

    `next` is the offset that follows what has been given out, by partition; `taken` how many offsets of the window were
    no longer there. `head` is what the values of our own records begin with: see `sift`.
    """

    def __init__(self, settings: Settings, topic: str, spans: Sequence[Span], head: bytes = b"") -> None:
        self._topic, self._ends = topic, {span.partition: span.end for span in spans}
        self.next = {span.partition: span.start for span in spans}
        self.taken: dict[int, int] = {}
        self._left = {span.partition for span in spans if span.start < span.end}
        self._sorting = Sorting(head)
        self._consumer = Consumer(consumer_config(settings, group_id="pipeline-scan", **_AHEAD))
        self._thread = ThreadPoolExecutor(1, "scan")

    async def __aenter__(self) -> Self:
        """Begin to fetch."""
        await self._in_thread(self._assign)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the broker, once a call that was given up has ended."""
        await self._in_thread(self._consumer.close)
        self._thread.shutdown(wait=False)

    @property
    def over(self) -> bool:
        """Whether all has been given out."""
        return not self._left and not self._sorting.held_back

    @property
    def gone(self) -> int:
        """How many of the window's offsets were no longer there, in all."""
        return sum(self.taken.values())

    async def read(self, limit: int, wait_s: float) -> list[Record]:
        """The next ones, at most `limit`; none when nothing came within the wait. Raises `Unreachable`."""
        return await self._in_thread(lambda: [as_record(one) for one in self._taken(limit, wait_s)])

    async def sift(self, limit: int, wait_s: float, fates: Mapping[Names, Fate]) -> Sifted:
        """The next ones told apart by their headers: what they come to, and which of them must be decoded.

        Those of names that have no fate yet are held back, and are the first that the next call looks at. Raises
        `Unreachable`.
        """
        return await self._in_thread(lambda: self._sorting(self._taken(limit, wait_s), fates))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except KafkaException as error:
            raise Unreachable(f"Kafka does not give the records of {self._topic}: {error.args[0].str()}") from error

    def _taken(self, limit: int, wait_s: float) -> list[Message]:
        """Those of the window, in the order of their partitions."""
        if not self._left:
            return []
        first = self._consumer.poll(0 if self._sorting.held_back else wait_s)
        if first is None:
            return []
        more = self._consumer.consume(limit - 1, 0) if limit > 1 else []
        return [message for message in (first, *more) if self._is_next(message)]

    def _is_next(self, message: Any) -> bool:
        """Whether it is a record of the window; what it says of its partition is taken note of."""
        partition, offset, error = message.partition(), message.offset(), message.error()
        if error is not None:
            self._trouble(partition, offset, error)
            return False
        if partition not in self._left or offset < self.next[partition]:
            return False
        end: int = self._ends[partition]
        self.next[partition] = min(offset + 1, end)
        if offset + 1 >= end:
            self._finish(partition)
        return bool(offset < end)

    def _trouble(self, partition: int, offset: int, error: KafkaError) -> None:
        """The log's end, a beginning that is gone; the rest passes, librdkafka mends it by itself."""
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name of it
            if partition in self._left and offset >= self._ends[partition]:  # past markers and holes
                self._finish(partition)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._left:  # noqa: SLF001
            self._skip_to_what_is_there(partition)

    def _skip_to_what_is_there(self, partition: int) -> None:
        """The offset that is next is not there: before the log's beginning, or (a broker lost some) beyond its end."""
        place = TopicPartition(self._topic, partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=_ASK_S)
        at, end = self.next[partition], self._ends[partition]
        reached = end if at > high else min(max(low, at), end)
        self.taken[partition] = self.taken.get(partition, 0) + reached - at
        self.next[partition] = reached
        if reached >= end:
            self._finish(partition)
        self._assign()

    def _finish(self, partition: int) -> None:
        self._left.discard(partition)
        self.next[partition] = self._ends[partition]
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def _assign(self) -> None:
        left = [TopicPartition(self._topic, partition, self.next[partition]) for partition in sorted(self._left)]
        self._consumer.assign(left)
