"""Views: compacted topics read into memory, to their end, then followed. What Kafka Streams calls a global KTable.

The reader has no group and commits nothing. It reads committed records only; its end is the last stable offset, and
it is there when its position is, past transaction markers (librdkafka tells that with its end-of-partition event).
Records stay encoded.

The ends are asked through a consumer that fetches nothing: behind a fetch that waits for records the answer would take
half a second. (Asked for the offset of the time that stands for the end, Kafka tells who reads committed records the
last stable one.) A router asks before each batch: an admin client, whose answers come through threads of its own, took
twice its time for that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.errors import Unreachable
from pipeline.kafka.clients import consumer_config, learn_leaders
from pipeline.settings import Settings

_BATCH = 10_000
_POLL_S = 0.25
_ASK_S = 10.0
_HEAD = 5
_AHEAD_KIB = 8_192
"""What is fetched before it is taken: the memory for it stays with the process. When it is full, so much is soon taken
that a second, which is the client's own pause, would be most of the time."""

Row = tuple[str, int, int, str | None, bytes | None]
"""Topic, partition, position after it, key (None: no record, only a new position), value (None: a tombstone)."""
Partition = tuple[str, int]


@dataclass(slots=True)
class _Rows:
    """One topic's records by the first part of their keys (the tenant of `tenant/webhook`), then by their keys.

    There is no other index: at a million records each costs a tenth of all that they take.
    """

    groups: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        """The record of that key."""
        return self.groups.get(key.partition("/")[0], {}).get(key)

    def put(self, key: str, value: bytes | None) -> None:
        """The newest record of a key; None: a tombstone."""
        group = key.partition("/")[0]
        if value is not None:
            self.groups.setdefault(group, {})[key] = value
        elif (held := self.groups.get(group)) is not None:
            held.pop(key, None)
            if not held:
                del self.groups[group]


class Table:
    """The newest record of every key of some compacted topics. Everything but the reading happens in the event loop.

    `followed` topics are read to their end at the beginning like the others; later nobody waits for them: `ends` leaves
    them out.
    """

    def __init__(self, settings: Settings, topics: tuple[str, ...], followed: tuple[str, ...] = ()) -> None:
        self._topics, self._followed = (*topics, *followed), frozenset(followed)
        self._rows = {topic: _Rows() for topic in self._topics}
        self._positions: dict[Partition, int] = {}
        self._waiting: list[tuple[dict[Partition, int], asyncio.Future[None]]] = []
        self.heads: set[bytes] = set()
        """The first five bytes of the values seen: which schemas they were written with."""
        self._watchers: list[Callable[[str, str], None]] = []
        whole = {"enable_partition_eof": True, "auto_offset_reset": "earliest"}  # a trimmed log begins later than 0
        ahead = {"queued_max_messages_kbytes": _AHEAD_KIB, "fetch_queue_backoff_ms": 10}
        self._consumer = Consumer(consumer_config(settings, group_id="pipeline-view", **whole, **ahead))
        self._asker = Consumer(consumer_config(settings, group_id="pipeline-view"))
        self._thread = threading.Thread(target=self._read, name="view", daemon=True)
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Read every topic to the end that it has now."""
        partitions = await asyncio.to_thread(self._partitions)
        self._consumer.assign([TopicPartition(topic, number, 0) for topic, number in partitions])
        self._thread.start()
        try:
            await self.caught_up(await asyncio.to_thread(self._ends_of, partitions))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop following."""
        await self._close()

    async def _close(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._consumer.close)

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key, encoded."""
        return self._rows[topic].get(key)

    def keys(self, topic: str, group: str | None = None) -> Iterator[str]:
        """All keys, or those of one group (`tenant` of `tenant/webhook`)."""
        groups = self._rows[topic].groups
        return iter(tuple(chain.from_iterable(groups.values()) if group is None else groups.get(group, ())))

    def offset(self, topic: str) -> int:
        """How far a one-partition topic has been read: the offset of the next record."""
        return self._positions.get((topic, 0), 0)

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(topic, key)` after every change, in the event loop."""
        self._watchers.append(changed)

    async def ends(self) -> dict[Partition, int]:
        """The last stable offsets now, asked of the broker. Raises `Unreachable`."""
        return await asyncio.to_thread(self.ask_ends)

    def ask_ends(self) -> dict[Partition, int]:
        """`ends`, for a caller in a thread of its own."""
        return self._ends_of([place for place in self._partitions() if place[0] not in self._followed])

    def _ends_of(self, partitions: list[Partition]) -> dict[Partition, int]:
        try:
            places = self._asker.offsets_for_times([TopicPartition(*at, OFFSET_END) for at in partitions], _ASK_S)
            for place in places:
                _raise_for(place)
        except KafkaException as error:
            learn_leaders(self._asker)
            raise Unreachable(f"Kafka does not say where its topics end: {error.args[0].str()}") from error
        return {(place.topic, place.partition): place.offset for place in places}

    async def caught_up(self, ends: dict[Partition, int]) -> None:
        """Wait until everything below these offsets has been read."""
        if self._past(ends):
            return
        reached: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((ends, reached))
        await reached

    async def reached(self, topic: str, offset: int) -> None:
        """Wait until a one-partition topic has been read up to `offset`."""
        await self.caught_up({(topic, 0): offset})

    def _partitions(self) -> list[Partition]:
        if not self._positions:
            self._positions = {partition: 0 for topic in self._topics for partition in self._ask_partitions(topic)}
        return list(self._positions)

    def _ask_partitions(self, topic: str) -> list[Partition]:
        try:
            found = self._asker.list_topics(topic, timeout=_ASK_S).topics[topic]
        except KafkaException as error:
            raise Unreachable(f"no Kafka broker answers: {error.args[0].str()}") from error
        if found.error is not None:
            raise Unreachable(f"topic {topic} is not there ({found.error.str()}): run `pipeline topics create`")
        return [(topic, number) for number in found.partitions]

    def _past(self, ends: dict[Partition, int]) -> bool:
        return all(self._positions[partition] >= end for partition, end in ends.items())

    def _read(self) -> None:
        """The reader's thread: poll, take apart, hand over to the loop."""
        while not self._stop.is_set():
            first = self._consumer.poll(_POLL_S)
            if first is None:
                continue
            rows = [row for message in (first, *self._consumer.consume(_BATCH, 0)) if (row := _row(message))]
            with suppress(RuntimeError):  # the loop has been closed: the process ends
                self._loop.call_soon_threadsafe(self._apply, rows)

    def _apply(self, rows: list[Row]) -> None:
        for topic, partition, position, key, value in rows:
            self._positions[topic, partition] = position
            if key is not None:
                self.heads.add(value[:_HEAD] if value else b"")
                self._rows[topic].put(key, value)
                for changed in self._watchers:
                    changed(topic, key)
        still = []
        for ends, reached in self._waiting:
            if not self._past(ends):
                still.append((ends, reached))
            elif not reached.done():
                reached.set_result(None)
        self._waiting = still


def _raise_for(place: TopicPartition) -> None:
    if place.error is not None:
        raise KafkaException(place.error)


def _row(message: object) -> Row | None:
    """A record, or the news that the end has been reached.

    None for a passing error, which librdkafka mends by itself.
    """
    topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()  # type: ignore[attr-defined]
    if error is not None:
        return (topic, partition, offset, None, None) if error.code() == KafkaError._PARTITION_EOF else None  # noqa: SLF001
    return topic, partition, offset + 1, (message.key() or b"").decode(errors="backslashreplace"), message.value()  # type: ignore[attr-defined]
