"""The thread of a feed: polls the consumer on, whatever happens, so that the membership lives.

Every call to the consumer is made here: the client locks itself for the length of a poll, so that a call from the
event loop would wait for a callback that waits for the loop.

After a tick that came too late (`pulse`) nothing starts until a synchronous commit has gone through: the broker checks
it against the group's generation, so the membership has lasted. Then what waited is read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import OFFSET_STORED, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Fenced, PipelineError, Unreachable
from pipeline.faults import Faults, Point
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.messages import as_record
from pipeline.kafka.pulse import now
from pipeline.kafka.source import Owner, Source
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

BATCH = 500
_HEARTBEAT_MS = 500
"""A member learns of a rebalance by its heartbeat, and a cooperative one takes several rounds."""
_POLL_S = 0.1
_FEW, _MANY = 10, 100
_SOON_S, _GATHER_S = 0.001, 0.004
"""After a batch that is not large, let more records gather: handing it over between threads costs more than a record's
work. Where few come, they come soon."""
_BLOCKED_S = 1.0
"""When the stage takes nothing for longer, all partitions are paused, and polled on."""
_PROBE_S = 1.0
_LEAVING_S = 1.0
"""How long it takes at least until the group knows that a member has left."""
_LATE_S = 60.0
"""A commit that waits for the broker goes out when it is back; if the membership has ended meanwhile it is refused as a
stranger's (librdkafka names no member then), which says nothing about another process."""

T = TypeVar("T")
_log = structlog.get_logger()


class Poller:
    """Polls until it is told to leave; `to_commit`, `doubt` and `rejoin` are how it is told the rest."""

    def __init__(self, settings: Settings, source: Source, owner: Owner) -> None:
        self._source, self._owner, self._servers = source, owner, settings.bootstrap_servers
        self._loop = asyncio.get_running_loop()
        self.leave, self.abandoned, self.turned = Flag(), False, now()
        self.to_commit: dict[Partition, int] = {}
        self.doubt: int | None = None
        self.rejoin, self.member = False, ""
        self._down, self._unanswered, self._last_trouble = "", "", ""
        self._settings, self._lost_s, self._stale = settings, -_LATE_S, False
        self._held: frozenset[Partition] = frozenset()
        self._paused: frozenset[Partition] = frozenset()
        self._came_back: frozenset[Partition] = frozenset()
        self._in_hand: list[Message] = []
        self._held_up = False
        self._reached: dict[Partition, int] = {}
        self._consumer, self._commit = self._clients()
        self.thread = Thread(target=self._run, name=f"feed-{source.group}", daemon=True)

    def _clients(self) -> tuple[Consumer, Callable[..., Any]]:
        faults, source = Faults.of(self._settings), self._source
        consumer = Consumer(
            consumer_config(
                self._settings,
                group_id=source.group,
                group_instance_id=source.instance,
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=source.session_ms,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                auto_offset_reset="earliest",
                enable_partition_eof=True,
                on_commit=faults.at(Point.AFTER_COMMIT, self._on_commit),
                error_cb=self._on_error,
                **source.properties,
            )
        )
        return consumer, faults.at(Point.BEFORE_COMMIT, consumer.commit)

    @property
    def troubles(self) -> list[str]:
        """Which dependency is known not to answer, one sentence each."""
        return [trouble for trouble in (self._down, self._unanswered) if trouble]

    def _run(self) -> None:
        try:
            self._join()
            while not self.leave.is_set():
                self._turn()
            self._drain()
            self._consumer.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must end
            with suppress(RuntimeError):  # the loop has been closed: the process ends
                self._loop.call_soon_threadsafe(self._owner.fail, error)

    def _join(self) -> None:
        self._consumer.subscribe(
            list(self._source.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _join_anew(self) -> None:
        """Replace a client that has died of a commit which it sent after its membership had ended.

        What it held is lost: another may have it by now.
        """
        held = list(self._held)
        _log.warning("joining the group anew", lost=held)
        self._in_loop(self._owner.let_go(held, lost=True))
        self._drop(held)
        self._consumer.close()
        self._consumer, self._commit = self._clients()
        self._stale, self._paused = False, frozenset()
        self._join()

    def _rejoin(self) -> None:
        """Leave, so that the group shares all of its partitions out anew, and come back."""
        self.rejoin = False
        self._consumer.unsubscribe()
        until = now() + _LEAVING_S
        while (self._held or now() < until) and not self.leave.is_set():
            self._poll(_POLL_S)
        self._join()

    def _turn(self) -> None:
        self.turned = now()
        if self._stale:
            self._join_anew()
        if self.rejoin:
            self._rejoin()
        self.member = self.member or self._consumer.memberid() or ""
        if self.doubt is not None:
            self._confirm(self.doubt)
        if self._down:
            self._look_for_broker()
        self._commit_as_told()
        self._pause_as_told()
        if self._held_up or not self._in_hand:
            self._poll(_POLL_S)
        if self._in_hand:
            self._hand_over()
        elif self._reached:
            self._tell_reached()

    def _poll(self, timeout_s: float) -> None:
        """Take the first record in hand as soon as there is one, with all that is there already."""
        first = self._consumer.poll(timeout_s)
        if first is not None:
            self._keep([first])
            self._keep(self._consumer.consume(BATCH - 1, 0))

    def _keep(self, messages: list[Message]) -> None:
        self._in_hand += [message for message in messages if self._is_record(message)]

    def _drop(self, partitions: list[Partition]) -> None:
        """What is in hand of partitions that go is read again by whoever gets them next, from their commit on."""
        gone = frozenset(partitions)
        self._consumer.resume(_names(gone & self._paused))  # the client would keep the pause, and forget to end it
        self._held, self._paused = self._held - gone, self._paused - gone
        self._in_hand = [one for one in self._in_hand if (one.topic(), one.partition()) not in gone]
        self._reached = {name: end for name, end in self._reached.items() if name not in gone}
        self._held_up &= bool(self._in_hand)

    def _hand_over(self) -> None:
        """Give the stage what is in hand; while it takes nothing, or nobody answers what is asked, hold everything."""
        if not self._owner.intake.room.acquire(timeout=0 if self._held_up else _BLOCKED_S):
            self._held_up = True
            return
        try:
            ends = self._source.ask()
        except Unreachable as error:
            self._unanswered, self._held_up = str(error), True
            self._owner.intake.room.release()
            return
        self._unanswered, self._held_up = "", False
        messages, self._in_hand = self._in_hand, []
        self._loop.call_soon_threadsafe(self._owner.intake.accept, [as_record(message) for message in messages], ends)
        if self._reached:
            self._tell_reached()
        if len(messages) < _MANY:
            time.sleep(_SOON_S if len(messages) < _FEW else _GATHER_S)

    def _tell_reached(self) -> None:
        reached, self._reached = self._reached, {}
        self._loop.call_soon_threadsafe(self._owner.intake.reach, reached)

    def _commit_as_told(self) -> None:
        due, self.to_commit = self.to_commit, {}
        if due and not self.abandoned and not self._down and self._consumer.memberid():
            # one made after the client has given its membership up passes for a stranger's, who is fenced for good
            self._commit(offsets=_offsets(due), asynchronous=True)

    def _pause_as_told(self) -> None:
        if self._came_back:  # whether the client has kept its pause is its own affair
            self._consumer.resume(_names(self._came_back & self._held))
            self._paused, self._came_back = self._paused - self._came_back, frozenset()
        told = self._held if self._held_up else (self._source.paused() | self._owner.intake.full) & self._held
        if told != self._paused:
            self._consumer.pause(_names(told - self._paused))
            self._consumer.resume(_names((self._paused - told) & self._held))
            self._paused = told

    def _confirm(self, doubt: int) -> None:
        """Show by a commit that the membership has lasted, then read again what waited; otherwise poll on."""
        floors = self._in_loop(self._owner.in_doubt())
        if floors and not self.abandoned:
            if None in floors.values():  # nothing has been read of it: that comes first
                return
            member = self._consumer.memberid()
            stored = self._commit_now(cast("dict[Partition, int]", floors))
            if not stored or not member or self._consumer.memberid() != member:
                return
        again = self._in_loop(self._owner.reopen(doubt))
        for place in _offsets(again):
            self._consumer.seek(place)

    def _look_for_broker(self) -> None:
        with suppress(KafkaException):
            self._consumer.list_topics(timeout=_PROBE_S)
            _log.warning("Kafka answers again")
            self._down = ""

    def _drain(self) -> None:
        """Poll on without taking records until the loop says that nothing is in flight, then commit."""
        self._consumer.pause(_names(self._held))
        while self._in_loop(self._owner.in_flight()):
            self._consumer.poll(_POLL_S)
        self._commit_last(self._held)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = _of(partitions)
        self._held |= frozenset(names)
        self._came_back |= self._paused & frozenset(names)
        self.member = ""  # it may be another one now
        self._in_loop(self._owner.take(names))
        if starts := self._source.starts(names):
            self._consumer.incremental_assign(_offsets({name: starts.get(name, OFFSET_STORED) for name in names}))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = _of(partitions)
        self._in_loop(self._owner.close(names))
        self._commit_last(names)
        self._in_loop(self._owner.let_go(names, lost=False))
        self._drop(names)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = _of(partitions)
        _log.warning("partitions lost", partitions=names)
        self._lost_s = now()
        self._in_loop(self._owner.let_go(names, lost=True))
        self._drop(names)

    def _commit_last(self, partitions: Iterable[Partition]) -> None:
        floors = self._in_loop(self._owner.due())
        due = {name: floors[name] for name in partitions if name in floors}
        if due and not self.abandoned:
            self._commit_now(due)

    def _commit_now(self, due: dict[Partition, int]) -> bool:
        """Whether the broker has stored all of it. If not, the next owner starts lower: repeats, no loss."""
        try:
            stored: list[TopicPartition] = self._commit(offsets=_offsets(due), asynchronous=False)
        except KafkaException as error:
            _log.warning("a commit failed", reason=error.args[0].str())
            return False
        return all(place.error is None for place in stored)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        stored = {(p.topic, p.partition): p.offset for p in partitions if p.error is None}
        if error is None:
            self._loop.call_soon_threadsafe(self._owner.tracker.committed, stored)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            if (fault := self._fatal(error)) is not None:
                self._loop.call_soon_threadsafe(self._owner.fail, fault)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - public under this name
            self._down = f"Kafka ({self._servers}) does not answer: {self._last_trouble or error.str()}"
        else:
            self._last_trouble = error.str()

    def _is_record(self, message: Message) -> bool:
        if (error := message.error()) is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._reached[message.topic() or "", message.partition() or 0] = message.offset() or 0
        elif error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - a message's error is not marked
            if (fault := self._fatal(error)) is not None:
                raise fault
        else:
            _log.warning("kafka", reason=error.str())
        return False

    def _fatal(self, error: KafkaError) -> PipelineError | None:
        """Why the process must end, as this client can do no more; None if the client can be replaced."""
        fenced = (
            KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str()
        )  # wrapped: its code is any fatal error's
        if fenced and now() - self._lost_s <= _LATE_S:
            self._stale = True
            return None
        if fenced:
            return Fenced("another process has joined the group under this instance id")
        return PipelineError(f"Kafka's client cannot go on: {error.str()}")

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _of(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [(p.topic, p.partition) for p in partitions]


def _names(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in partitions]


def _offsets(floors: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number, floor) for (topic, number), floor in floors.items()]
