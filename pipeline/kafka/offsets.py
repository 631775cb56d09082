"""Committed offsets that lie beyond the end of their log.

A broker that lost the end of a log (one broker without a second copy, after a power loss) may still know commits for
what it lost. A consumer would then skip the records that are written next, up to that commit. So each such commit is
lowered to the log's end before anybody consumes.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from pipeline.errors import Unreachable

T = TypeVar("T")

_TIMEOUT = 5.0
"""Seconds for one answer."""
_PATIENCE = 40.0
"""Seconds: longer than a session, for which the members of a killed run still count as alive."""
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.NON_EMPTY_GROUP,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka's own errors are public under these names
        KafkaError._TRANSPORT,  # noqa: SLF001
    }
)
Place = tuple[str, int]


def lower_offsets_beyond_end(bootstrap: str) -> list[str]:
    """Lower every commit beyond its log's end to that end. One warning for each; blocks.

    Raises `Unreachable` when the broker does not answer, or still counts members of a group as alive, for too long.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "client.id": "pipeline-offsets", "log_level": 0})
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return _lower(admin)
        except (KafkaException, TimeoutError) as error:
            if not _passes(error) or time.monotonic() > until:
                raise Unreachable(
                    f"Kafka at {bootstrap} did not let its committed offsets be checked: {error}"
                ) from error
            time.sleep(0.2)


def _passes(error: KafkaException | TimeoutError) -> bool:
    """Whether waiting helps. A request that meets a coordinator in the making may also stay without an answer."""
    return isinstance(error, TimeoutError) or error.args[0].code() in _PASSING


def _lower(admin: AdminClient) -> list[str]:
    found = _value(admin.list_consumer_groups(request_timeout=_TIMEOUT))
    for error in found.errors or ():
        raise KafkaException(error)
    committed = {group.group_id: _committed(admin, group.group_id) for group in found.valid or ()}
    ends = _ends(admin, {place for places in committed.values() for place in places})
    warnings = []
    for group, places in committed.items():
        beyond = {place: offset for place, offset in places.items() if offset > ends.get(place, offset)}
        if beyond:
            _commit(admin, group, {place: ends[place] for place in beyond})
        warnings += [_warning(group, place, offset, ends[place]) for place, offset in beyond.items()]
    return warnings


def _committed(admin: AdminClient, group: str) -> dict[Place, int]:
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=_TIMEOUT)
    return {(p.topic, p.partition): p.offset for p in _answered(asked[group]) if p.offset >= 0}


def _ends(admin: AdminClient, places: set[Place]) -> dict[Place, int]:
    if not places:
        return {}
    asked = admin.list_offsets(
        {TopicPartition(*place): OffsetSpec.latest() for place in places}, request_timeout=_TIMEOUT
    )
    return {(p.topic, p.partition): end for p, answer in asked.items() if (end := _end(answer)) is not None}


def _end(answer: Future[ListOffsetsResultInfo]) -> int | None:
    """The log's end, or nothing for a partition that is no longer there."""
    try:
        return _value(answer).offset
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _commit(admin: AdminClient, group: str, offsets: dict[Place, int]) -> None:
    wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)], request_timeout=_TIMEOUT)
    _answered(asked[group])


def _answered(answer: Future[ConsumerGroupTopicPartitions]) -> list[TopicPartition]:
    """The partitions of an answer, none of which may carry an error: a coordinator that still loads says so there."""
    partitions: list[TopicPartition] = _value(answer).topic_partitions or []
    for partition in partitions:
        if partition.error:
            raise KafkaException(partition.error)
    return partitions


def _warning(group: str, place: Place, offset: int, end: int) -> str:
    topic, partition = place
    return (
        f"{group} had committed offset {offset} of {topic}-{partition}, but the log ends at {end}: the broker lost "
        f"{offset - end} records at its last end. Consuming goes on at {end}."
    )


def _value(answer: Future[T]) -> T:
    return answer.result(_TIMEOUT + 1)
