"""Group coordinators of a broker that has just started: made with the first question, loaded after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.errors import Unreachable
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.topics import EVENTS
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


def await_coordinators(settings: Settings, groups: Iterable[str]) -> None:
    """Wait until each group's coordinator answers. Blocks. Raises `Unreachable` after a minute.

    The first question to a new broker makes it create `__consumer_offsets`, for about a second. A consumer waits for
    that; an admin client's request that arrives meanwhile can stay unanswered for good, and then its client cannot even
    be closed.
    """
    until = time.monotonic() + _PATIENCE_S
    for group in groups:
        _await(settings, group, until)


def _await(settings: Settings, group: str, until: float) -> None:
    consumer = Consumer(consumer_config(settings, group_id=group))
    try:
        while error := _trouble(consumer):
            if error.code() not in _PASSING or time.monotonic() > until:
                raise Unreachable(f"Kafka has no coordinator for {group}: {error.str()}")
            time.sleep(_PAUSE_S)
    finally:
        consumer.close()


def _trouble(consumer: Consumer) -> KafkaError | None:
    try:
        consumer.committed([TopicPartition(EVENTS, 0)], timeout=_TRY_S)
    except KafkaException as error:
        raised: KafkaError = error.args[0]
        return raised
    return None
