"""A consumer group's offsets, read and set from outside, by a client that never joins it.

Not with an admin client: its requests to a group's coordinator can stay unanswered for good when they arrive while a
new broker makes `__consumer_offsets`, and end the whole process (librdkafka 2.16 aborts) when the broker dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.errors import Unreachable
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_PATIENCE_S = 60.0
_TRY_S = 10.0
_PAUSE_S = 0.1
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka's own errors are public under these names
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)

T = TypeVar("T")


@contextmanager
def offsets_of(settings: Settings, group: str, patience_s: float = _PATIENCE_S) -> Iterator[Offsets]:
    """The offsets of `group`, for as long as the `with` lasts; `patience_s` is for the group's coordinator."""
    consumer = Consumer(consumer_config(settings, group_id=group))
    try:
        yield Offsets(consumer, group, patience_s)
    finally:
        consumer.close()


class Offsets:
    """One group's committed offsets."""

    def __init__(self, consumer: Consumer, group: str, patience_s: float) -> None:
        self._consumer, self._group, self._patience_s = consumer, group, patience_s

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Those of the partitions for which the group has an offset. Raises `Unreachable`."""
        asked = [TopicPartition(*partition) for partition in partitions]
        found = self._answered(lambda: self._consumer.committed(asked, timeout=_TRY_S)) if asked else []
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def commit(self, offsets: dict[Partition, int]) -> None:
        """Store these; the group must have no members. Raises `Unreachable`."""
        wanted = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        if wanted:
            self._answered(lambda: _each_stored(self._consumer.commit(offsets=wanted, asynchronous=False)))

    def _answered(self, ask: Callable[[], T]) -> T:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return ask()
            except KafkaException as error:
                trouble: KafkaError = error.args[0]
                if trouble.code() not in _PASSING or time.monotonic() > until:
                    raise Unreachable(f"Kafka does not keep the offsets of {self._group}: {trouble.str()}") from error
            time.sleep(_PAUSE_S)


def _each_stored(stored: list[TopicPartition]) -> None:
    for partition in stored:
        if partition.error is not None:
            raise KafkaException(partition.error)
