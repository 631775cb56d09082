"""Taking over a partition of `deliveries`: what was attempted of it before is read from `attempts` first.

Attempts lie under the partition number that their delivery was read from. So the new owner reads that partition
backwards in steps, until a whole step answers only deliveries far below where it begins, and starts nothing of the
partition before; other partitions go on meanwhile. What the former owner still writes afterwards matters to one kind
of record alone, the carriers of what it had handed over: who gets one that it does not know reads on to the end first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import Undecodable, Unreachable
from pipeline.kafka import records
from pipeline.kafka.clients import client_config, consumer_config, learn_leaders
from pipeline.kafka.codec import Codec
from pipeline.kafka.feed import Batch
from pipeline.kafka.processing import Fail, Learning
from pipeline.kafka.topics import ATTEMPTS
from pipeline.kafka.tracker import Progress
from pipeline.ports import Record
from pipeline.profiles import PROFILES
from pipeline.settings import Settings
from pipeline.workers.repeats import KEYS, Made, Repeats, Round

REACH = 100_000
"""Offsets of `deliveries` below the first one to be worked on: who repeats deliveries repeats recent ones."""
STEP = 10_000
"""Attempts that are read at a time: fewer cost more in seeks, more are more than needed."""
STILL_WRITES_S = max(profile.deadline_s for profile in PROFILES.values()) + 30
"""For so long a former owner may still write attempts of what it had in flight."""
_BATCH = 1_000
_POLL_S = 0.1
_ASK_S = 10.0
_RETRY_S = 0.5
_log = structlog.get_logger()

T = TypeVar("T")


class AttemptLog:
    """Reads stretches of `attempts` without a group, in a thread of its own: the one consumer belongs to it."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec, self._learn = settings, codec, Learning(codec)
        self._thread = ThreadPoolExecutor(1, "attempts")
        config: dict[str, Any] = client_config(settings)
        self._asker = AdminClient(config)
        self._consumer: Consumer | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of the broker."""
        self._closing = True
        await asyncio.to_thread(self._thread.shutdown)
        if self._consumer is not None:
            await asyncio.to_thread(self._consumer.close)

    async def ends(self, number: int) -> tuple[int, int]:
        """Where the partition begins and ends now; waits for a broker that is down."""
        while True:
            try:
                return await self._in_thread(self._ends, number)
            except Unreachable as error:
                _log.warning("waiting", reason=str(error))
                await asyncio.sleep(_RETRY_S)

    async def read(self, number: int, since: int, until: int) -> list[tuple[Round, Made]]:
        """The attempts from offset `since` up to `until`."""
        values = await self._in_thread(self._read, number, since, until)
        await self._learn.schemas_of(values)
        return await self._in_thread(self._made, values)

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _ends(self, number: int) -> tuple[int, int]:
        place, level = TopicPartition(ATTEMPTS, number), IsolationLevel.READ_COMMITTED
        asked = [
            self._asker.list_offsets({place: spec}, isolation_level=level, request_timeout=_ASK_S)[place]
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        ]
        try:
            first, last = (answer.result().offset for answer in asked)
        except KafkaException as error:
            learn_leaders(self._asker)
            raise Unreachable(f"Kafka does not say where {ATTEMPTS} ends: {error.args[0].str()}") from error
        return first, last

    def _read(self, number: int, since: int, until: int) -> list[bytes | None]:
        if self._consumer is None:
            self._consumer = _consumer(self._settings)
        self._consumer.assign([TopicPartition(ATTEMPTS, number, since)])
        values: list[bytes | None] = []
        at = since
        while at < until and not self._closing:
            for message in self._messages(self._consumer):
                at = max(at, _position(message))
                if message.error() is None and at <= until:
                    values.append(message.value())
        self._consumer.unassign()
        return values

    @staticmethod
    def _messages(consumer: Consumer) -> list[Message]:
        first = consumer.poll(_POLL_S)
        return [] if first is None else [first, *consumer.consume(_BATCH, 0)]

    def _made(self, values: Sequence[bytes | None]) -> list[tuple[Round, Made]]:
        return [made for value in values if (made := self._one(value)) is not None]

    def _one(self, value: bytes | None) -> tuple[Round, Made] | None:
        """None for what is no attempt: a repeat that it would have told of is sent again."""
        try:
            v = self._codec.attempt_made(value)
        except Undecodable as error:
            _log.warning("an attempt cannot be read", reason=str(error))
            return None
        made = Made(v["attempt"], records.to_next(v["next"]), v["hop"], v["answers"]["offset"])
        return (v["delivery"], v["round"]), made


@dataclass(slots=True)
class _Taken:
    """One partition from the first of its records until it is lost. `held` waits for what was attempted before."""

    progress: Progress
    first: int
    held: list[tuple[Record, Progress]] | None = field(default_factory=list)
    read_to: int = 0
    read_at_s: float = 0.0
    until_s: float = 0.0


class TakingOver:
    """Stands before a stage's work and lets the records of a partition pass when it has been taken over.

    `holds` says how many partitions this process has: what it remembers is shared by them. `begun` is called when a
    partition has come.
    """

    def __init__(
        self, log: AttemptLog, repeats: Repeats, holds: Callable[[], int], begun: Callable[[], None] = lambda: None
    ) -> None:
        self._log, self._repeats, self._holds, self._begun = log, repeats, holds, begun
        self._work: Callable[[Batch], Awaitable[None]]
        self._fail: Fail
        self._taken: dict[int, _Taken] = {}
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def before(self, work: Callable[[Batch], Awaitable[None]], fail: Fail) -> Callable[[Batch], Awaitable[None]]:
        """What the stage calls with each batch; `fail` gets to know a fault of ours."""
        self._work, self._fail = work, fail
        return self.take

    @property
    def waiting(self) -> str | None:
        """Which partitions are being taken over, for readiness."""
        numbers = sorted(number for number, taken in self._taken.items() if taken.held and not taken.progress.lost)
        return f"taking over partitions {', '.join(map(str, numbers))}" if numbers else None

    async def take(self, batch: Batch) -> None:
        """Pass on what may be worked on; hold back what is being taken over."""
        ready = batch.records
        if not all(self._is_ready(record, progress) for record, progress in ready):
            ready = list(self._sorted_out(batch))
        await self._work(Batch(ready, batch.ends))

    async def catch_up(self, number: int) -> None:
        """Read what was written to this partition of `attempts` since it was taken over, if others may have written."""
        asked_s = time.monotonic()
        async with self._one_at_a_time:
            taken = self._taken.get(number)
            if taken is not None and taken.read_at_s <= min(asked_s, taken.until_s):
                await self._read_on(number, taken)

    def _is_ready(self, record: Record, progress: Progress) -> bool:
        taken = self._taken.get(record.partition)
        return taken is not None and taken.progress is progress and taken.held is None

    def _sorted_out(self, batch: Batch) -> Iterator[tuple[Record, Progress]]:
        for record, progress in batch:
            taken = self._taken.get(record.partition)
            if taken is None or taken.progress is not progress:
                taken = self._begin(record, progress)
            if taken.held is None:
                yield record, progress
            else:
                taken.held.append((record, progress))

    def _begin(self, record: Record, progress: Progress) -> _Taken:
        self._begun()
        taken = self._taken[record.partition] = _Taken(progress, record.offset)
        task = asyncio.create_task(self._take_over(record.partition, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return taken

    async def _take_over(self, number: int, taken: _Taken) -> None:
        try:
            async with self._one_at_a_time:
                await self._read_back(number, taken)
                await self._read_on(number, taken)
            held, taken.held = taken.held or [], None
            await self._work(Batch(held, {}))
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must end
            self._fail(error)

    async def _read_back(self, number: int, taken: _Taken) -> None:
        """Newest first, so that there is always enough of what is likeliest; learnt oldest first, as it was made."""
        began_s, (start, end) = time.monotonic(), await self._log.ends(number)
        taken.read_to, taken.until_s = end, began_s + STILL_WRITES_S
        least = max(start, end - KEYS // max(self._holds(), 1))
        at, steps = end, list[list[tuple[Round, Made]]]()
        while at > least and not taken.progress.lost and not _beyond(steps, taken.first - REACH):
            since = max(least, at - STEP)
            steps.append(await self._log.read(number, since, at))
            at = since
        for step in reversed(steps):
            await self._learn(step)
        whole = at == start or _beyond(steps, taken.first - REACH)
        told = {"partition": number, "attempts": end - at, "seconds": round(time.monotonic() - began_s, 2)}
        (_log.info if whole else _log.warning)("taken over" if whole else "taken over, as far as memory goes", **told)

    async def _read_on(self, number: int, taken: _Taken) -> None:
        taken.read_at_s, (_, end) = time.monotonic(), await self._log.ends(number)
        most = taken.read_to + KEYS
        while taken.read_to < min(end, most) and not taken.progress.lost:
            until = min(end, taken.read_to + STEP)
            await self._learn(await self._log.read(number, taken.read_to, until))
            taken.read_to = until

    async def _learn(self, found: list[tuple[Round, Made]]) -> None:
        for round_, made in found:
            self._repeats.learn(round_, made)
        await asyncio.sleep(0)


def _beyond(steps: list[list[tuple[Round, Made]]], offset: int) -> bool:
    """Whether the last step answers only deliveries below this offset."""
    return bool(steps and steps[-1]) and all(made.offset < offset for _, made in steps[-1])


def _position(message: Message) -> int:
    """How far reading is with this message: the next offset, or the end that has been reached."""
    error, offset = message.error(), message.offset() or 0
    if error is None:
        return offset + 1
    return offset if error.code() == KafkaError._PARTITION_EOF else 0  # noqa: SLF001 - public under this name


def _consumer(settings: Settings) -> Consumer:
    """Fetches little beyond a step, and says at once where the log ends."""
    return Consumer(
        consumer_config(
            settings,
            group_id="pipeline-takeover",
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            fetch_wait_max_ms=10,
            fetch_message_max_bytes=1_048_576,
            queued_min_messages=STEP,
        )
    )
