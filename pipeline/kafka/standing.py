"""How far other roles are on which a replay depends.

The forwarder lets in what replays write; the recorder's log says what became of an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, NoReturn

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import Unreachable
from pipeline.kafka.age import committed, partitions_of, unanswered, value
from pipeline.kafka.clients import client_config, learn_leaders
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.topics import DELAY_GROUP, DELIVERIES_REPLAY
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

MOST_WAITING = 5_000
"""Deliveries of replays that wait for the forwarder, at most, beside those that are written until it is looked again:
what is paused or cancelled should not have much on its way."""
_LOOK_S, _ASK_S, _PATIENCE_S = 1.0, 10.0, 10.0
_RECORDER = "pipeline-recorder"
_WAIT = "{} deliveries of replays wait until the delay role lets them in"
_log = structlog.get_logger()


class Ends:
    """Where topics end, for committed records: asked of the broker."""

    def __init__(self, settings: Settings) -> None:
        config: dict[str, Any] = client_config(settings)
        self._client = AdminClient(config)

    def __call__(self, names: Sequence[str]) -> dict[Partition, int]:
        """Of the partitions of these topics. Blocks. Raises `Unreachable`."""
        level = IsolationLevel.READ_COMMITTED
        try:
            asked = {TopicPartition(*place): OffsetSpec.latest() for place in partitions_of(self._client, names)}
            answers = self._client.list_offsets(asked, isolation_level=level, request_timeout=_ASK_S)
            return {(p.topic, p.partition): value(answer).offset for p, answer in answers.items()}
        except (KafkaException, TimeoutError) as error:
            learn_leaders(self._client)
            raise unanswered(error) from error


class Backlog:
    """How many deliveries of replays wait to be let in: looked at once a second while `busy`."""

    def __init__(self, settings: Settings, ends: Ends, busy: Callable[[], bool]) -> None:
        self._settings, self._ends, self._busy = settings, ends, busy
        self._over = Event()
        self.waiting = 0

    @property
    def full(self) -> str | None:
        """Why nothing should be added; None if there is room."""
        if self.waiting <= MOST_WAITING:
            return None
        return _WAIT.format(self.waiting)

    async def run(self) -> NoReturn:
        """Until cancelled; what was seen last stands while Kafka does not answer."""
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                if self._busy():
                    await self._watched()
        finally:
            self._over.set()

    async def _watched(self) -> None:
        try:
            await asyncio.to_thread(self._watch)
        except Unreachable as error:
            _log.warning("how much waits to be let in is not known", reason=str(error))

    def _watch(self) -> None:
        """In a thread, as long as it is busy: one client for all of that time."""
        with offsets_of(self._settings, DELAY_GROUP, _PATIENCE_S) as group:
            while self._busy() and not self._over.is_set():
                ends = self._ends((DELIVERIES_REPLAY,))
                held = group.committed(ends)
                self.waiting = sum(max(end - held.get(place, 0), 0) for place, end in ends.items())
                self._over.wait(_LOOK_S)
        self.waiting = 0


@dataclass(slots=True)
class Passed:
    """How much a group has not passed yet of what these topics held when somebody first asked."""

    settings: Settings
    ends: Ends
    group: str
    topics: tuple[str, ...]
    _wanted: dict[Partition, int] | None = None

    async def missing(self) -> int:
        """So many records; once there are none there are never any. Raises `Unreachable`."""
        if self._wanted is None:
            self._wanted = await asyncio.to_thread(self.ends, self.topics)
        if not self._wanted:
            return 0
        held = await asyncio.to_thread(committed, self.settings, self.group, list(self._wanted))
        self._wanted = {place: end for place, end in self._wanted.items() if held.get(place, 0) < end}
        return sum(end - held.get(place, 0) for place, end in self._wanted.items())


class Recorded:
    """Whether the delivery log has what these topics held when somebody first asked: once it has, it always has.

    The recorder's group is committed when the log has taken its records in. What replays have written comes to the log
    when it has been let in, so that is waited for first.
    """

    def __init__(self, settings: Settings, ends: Ends, topics: tuple[str, ...]) -> None:
        self._let_in = Passed(settings, ends, DELAY_GROUP, (DELIVERIES_REPLAY,))
        self._taken_in = Passed(settings, ends, _RECORDER, topics)

    async def __call__(self) -> str | None:
        """What is missing; None when it is all there. Raises `Unreachable`."""
        if missing := await self._let_in.missing():
            return _WAIT.format(missing)
        if missing := await self._taken_in.missing():
            return f"the delivery log lacks the last {missing} records: the recorder is at them"
        return None
