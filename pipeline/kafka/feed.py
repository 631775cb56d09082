"""The feed of a stage: polls a consumer in a thread, hands raw batches to the event loop, commits the tracker's floors.

Order of effects when a partition is revoked, all inside librdkafka's callback, so that the next owner starts after
it: (1) nothing more of it is started, (2) what is in flight gets 5 seconds, (3) the floor is committed, (4) the
partition is let go.

Every call to the consumer is made by the poller's thread: the client locks itself for the length of a poll, so that a
call from the event loop would wait for a callback that waits for the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Fenced, PipelineError, Unreachable
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.tracker import Partition, Progress, Tracker
from pipeline.ports import Record
from pipeline.settings import Settings

BATCH = 500
SESSION_MS = 10_000
GIVE_UP_S = 5.0
_HEARTBEAT_MS = 500
"""A member learns of a rebalance by its heartbeat, and a cooperative one takes several rounds."""
_COMMIT_S = 1.0
_POLL_S = 0.1
_FEW = 100
_GATHER_S = 0.004
"""After a small batch, let more records gather: handing it over between threads costs more than a record's work."""
_BLOCKED_S = 1.0
"""When the channel stays full for longer, the poller pauses its partitions and polls on: the membership must live."""
_RETRY_S = 0.5

T = TypeVar("T")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll has brought; `ends` is what the feed's `ask` answered after it."""

    records: list[tuple[Record, Progress]]
    ends: dict[Partition, int]

    def __iter__(self) -> Iterator[tuple[Record, Progress]]:
        return iter(self.records)


@dataclass(frozen=True, slots=True)
class Source:
    """What a feed reads, as a member of which group, under which instance id.

    `ask` runs in the poller's thread after every poll; `paused` says which partitions not to read at present.
    """

    group: str
    instance: str
    topics: tuple[str, ...]
    ask: Callable[[], dict[Partition, int]] = dict
    paused: Callable[[], frozenset[Partition]] = frozenset


class Feed:
    """Feeds one stage. Its thread owns the consumer; the tracker lives in the event loop."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        put: Callable[[Batch], Awaitable[Any]],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.tracker = Tracker()
        self._source, self._put, self._fail = source, put, fail
        self._loop = asyncio.get_running_loop()
        self._leave, self._abandoned, self._given_up = Flag(), False, False
        self._paused: frozenset[Partition] = frozenset()
        self._to_commit: dict[Partition, int] = {}
        self.joined = False
        self._consumer = Consumer(
            consumer_config(
                settings,
                group_id=source.group,
                group_instance_id=source.instance,
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                auto_offset_reset="earliest",
                on_commit=self._on_commit,
                error_cb=self._on_error,
            )
        )
        self._thread = Thread(target=self._run, name=f"feed-{source.group}", daemon=True)
        self._commits: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join the group and begin to poll."""
        self._thread.start()
        self._commits = asyncio.create_task(self._commit_regularly())

    async def stop(self, grace_s: float) -> bool:
        """Start nothing more, give what is in flight `grace_s`, commit, leave. False if something was cut."""
        partitions = list(self.tracker.partitions)
        self.tracker.close(partitions)
        self._leave.set()
        ended = await self._idle(partitions, grace_s)
        self._given_up = True
        if self._commits is not None:
            self._commits.cancel()
        await asyncio.to_thread(self._thread.join)
        return ended

    def abandon(self) -> None:
        """The process is about to end for a fault: commit nothing any more, start nothing any more."""
        self._abandoned = True
        self.tracker.close(list(self.tracker.partitions))

    # ---- in the poller's thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                list(self._source.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            records: list[Message] = []
            while not self._leave.is_set():
                self._pause_as_told()
                self._commit_as_told()
                records = records or self._poll(_POLL_S)
                if records:
                    few = len(records) < _FEW
                    records = self._hand_over(records)
                    if few:
                        time.sleep(_GATHER_S)
            self._drain()
            self._consumer.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must end
            self._loop.call_soon_threadsafe(self._fail, error)

    def _poll(self, timeout_s: float) -> list[Message]:
        """The first record as soon as there is one, with all that is there already."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        return [message for message in (first, *self._consumer.consume(BATCH - 1, 0)) if not self._is_error(message)]

    def _hand_over(self, messages: list[Message]) -> list[Message]:
        """Put a batch on the channel; what comes while that is full (after a rebalance) is for the next turn."""
        ends = self._ask()
        put = asyncio.run_coroutine_threadsafe(
            self._accept([_record(message) for message in messages], ends), self._loop
        )
        if self._waited(put, _BLOCKED_S):
            return []
        late = []
        while not self._waited(put, 0) and not self._leave.is_set():
            self._consumer.pause(self._consumer.assignment())  # each time: a rebalance may bring more to read
            late += self._poll(_POLL_S)
        self._consumer.resume([p for p in self._consumer.assignment() if (p.topic, p.partition) not in self._paused])
        return late

    def _commit_as_told(self) -> None:
        due, self._to_commit = self._to_commit, {}
        if due and not self._abandoned:
            self._consumer.commit(offsets=_offsets(due), asynchronous=True)

    def _pause_as_told(self) -> None:
        held = {(p.topic, p.partition) for p in self._consumer.assignment()}
        told = self._source.paused() & held
        if told != self._paused:
            self._consumer.pause(_names(told - self._paused))
            self._consumer.resume(_names((self._paused - told) & held))
            self._paused = told

    def _ask(self) -> dict[Partition, int]:
        while True:
            try:
                return self._source.ask()
            except Unreachable:
                if self._leave.wait(_RETRY_S):
                    return {}

    @staticmethod
    def _waited(put: Future[None], timeout_s: float) -> bool:
        try:
            put.result(timeout_s)
        except TimeoutError:
            return False
        return True

    def _drain(self) -> None:
        """Poll on without taking records until the loop says that nothing is in flight, then commit."""
        self._consumer.pause(self._consumer.assignment())
        while self._in_loop(self._in_flight()):
            self._consumer.poll(_POLL_S)
        self._commit_now(list(self._in_loop(self._held())))

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._in_loop(self._take([(p.topic, p.partition) for p in partitions]))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [(p.topic, p.partition) for p in partitions]
        self._in_loop(self._close(names))
        self._commit_now(names)
        self._in_loop(self._let_go(names))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [(p.topic, p.partition) for p in partitions]
        _log.warning("partitions lost", partitions=names)
        self._in_loop(self._let_go(names))

    def _commit_now(self, partitions: list[Partition]) -> None:
        due = {partition: floor for partition, floor in self._in_loop(self._due()).items() if partition in partitions}
        if not due or self._abandoned:
            return
        try:
            self._consumer.commit(offsets=_offsets(due), asynchronous=False)
        except KafkaException as error:  # the next owner starts at the older commit: repeats, no loss
            _log.warning("the last commit failed", reason=error.args[0].str())

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        stored = {(p.topic, p.partition): p.offset for p in partitions if p.error is None}
        if error is None:
            self._loop.call_soon_threadsafe(self.tracker.committed, stored)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._loop.call_soon_threadsafe(self._fail, _fatal(error))

    def _is_error(self, message: Message) -> bool:
        if (error := message.error()) is None:
            return False
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - a message's error is not marked
            raise _fatal(error)
        _log.warning("kafka", reason=error.str())
        return True

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # ---- in the event loop ----------------------------------------------------------------------------------------

    async def _accept(self, records: list[Record], ends: dict[Partition, int]) -> None:
        seen = []
        for record in records:
            progress = self.tracker.partitions.get((record.topic, record.partition))
            if progress is not None and progress.see(record.offset):
                seen.append((record, progress))
        await self._put(Batch(seen, ends))

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            self._to_commit = self.tracker.due()

    async def _take(self, partitions: list[Partition]) -> None:
        self.joined = True
        for partition in partitions:
            self.tracker.take(partition)

    async def _close(self, partitions: list[Partition]) -> None:
        self.tracker.close(partitions)
        await self._idle(partitions, 0 if self._given_up else GIVE_UP_S)

    async def _let_go(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            self.tracker.let_go(partition)
            self._to_commit.pop(partition, None)

    async def _idle(self, partitions: list[Partition], timeout_s: float) -> bool:
        """Wait until nothing of these is in flight; False when time is up."""
        until = time.monotonic() + timeout_s
        while self.tracker.in_flight(partitions) and time.monotonic() < until:  # noqa: ASYNC110 - an event a record costs more
            await asyncio.sleep(0.01)
        return not self.tracker.in_flight(partitions)

    async def _in_flight(self) -> int:
        return (
            self.tracker.in_flight(list(self.tracker.partitions)) if self._commits and not self._commits.done() else 0
        )

    async def _held(self) -> list[Partition]:
        return list(self.tracker.partitions)

    async def _due(self) -> dict[Partition, int]:
        return self.tracker.due()


def _record(message: Message) -> Record:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return Record(
        message.topic() or "",
        cast("int", message.partition()),
        cast("int", message.offset()),
        message.key(),
        message.value(),
        tuple([(name, value or b"") for name, value in headers]),
        message.timestamp()[1],
    )


def _names(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in partitions]


def _offsets(floors: dict[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number, floor) for (topic, number), floor in floors.items()]


def _fatal(error: KafkaError) -> PipelineError:
    if KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str():  # wrapped, its code is that of any fatal error
        return Fenced("another process has joined the group under this instance id")
    return PipelineError(f"Kafka's client cannot go on: {error.str()}")
