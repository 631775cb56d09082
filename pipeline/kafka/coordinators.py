"""A new cluster's group coordinators, which come into being with their first question."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.errors import Unreachable
from pipeline.kafka.clients import consumer_config
from pipeline.kafka.topics import EVENTS
from pipeline.settings import Settings

_TIMEOUT_S = 60.0


def await_coordinators(settings: Settings, groups: Iterable[str]) -> None:
    """Wait until each group's coordinator answers. Raises `Unreachable`.

    The first question makes Kafka create `__consumer_offsets`, for about a second. A consumer waits for that; an admin
    client's request that arrives meanwhile can stay unanswered for good, and then its client cannot even be closed.
    """
    for group in groups:
        consumer = Consumer(consumer_config(settings, group_id=group))
        try:
            consumer.committed([TopicPartition(EVENTS, 0)], timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise Unreachable(f"Kafka has no coordinator for {group}: {error.args[0].str()}") from error
        finally:
            consumer.close()
