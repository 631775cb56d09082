"""Where a group starts: at its committed offsets, never at a place by accident."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import SettingsError, Unreachable, UsageError
from pipeline.kafka import topics
from pipeline.settings import Settings

_TIMEOUT_S = 30.0
_PAUSE_S = 0.25


def ensure(settings: Settings, group: str, names: tuple[str, ...], start: str | None = None) -> None:
    """See that the group has an offset for every partition of these topics.

    With `start` (`earliest`, `latest`, or an ISO 8601 time) the missing ones are set. Raises `UsageError` when some are
    missing and nothing is said, `Unreachable`.
    """
    client = topics.admin(settings)
    try:
        missing = _missing(client, group, names)
        if missing and start is None:
            first = missing[0]
            raise UsageError(
                f"group {group} has no offset for {first.topic}[{first.partition}]: run `pipeline topics create`, "
                "or say where it starts with --from earliest|latest|TIME"
            )
        if missing and start is not None:
            _set(client, group, missing, _spec(start))
    except KafkaException as error:
        raise Unreachable(f"Kafka does not tell the offsets of {group}: {error.args[0].str()}") from error


def require(settings: Settings, names: tuple[str, ...]) -> None:
    """See that these topics are there, before anything is written to them. Raises `UsageError`, `Unreachable`."""
    there = topics.existing(topics.admin(settings))
    if absent := [name for name in names if name not in there]:
        raise UsageError(f"topic {absent[0]} is not there: run `pipeline topics create`")


def _missing(client: AdminClient, group: str, names: tuple[str, ...]) -> list[TopicPartition]:
    counts = topics.existing(client)
    if absent := [name for name in names if name not in counts]:
        raise UsageError(f"topic {absent[0]} is not there: run `pipeline topics create`")
    known = {(p.topic, p.partition) for p in _held(client, group) if p.offset >= 0}
    every = (TopicPartition(name, number) for name in names for number in range(counts[name]))
    return [p for p in every if (p.topic, p.partition) not in known]


def _held(client: AdminClient, group: str) -> list[TopicPartition]:
    """The group's offsets; while its coordinator is in the making, ask again."""
    until = time.monotonic() + _TIMEOUT_S
    while True:
        asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        held: list[TopicPartition] = _result(asked[group]).topic_partitions or []
        failed = [p.error for p in held if p.error is not None]
        if not failed:
            return held
        if time.monotonic() > until:
            raise KafkaException(failed[0])
        time.sleep(_PAUSE_S)


def _set(client: AdminClient, group: str, missing: list[TopicPartition], spec: Any) -> None:
    asked = client.list_offsets(dict.fromkeys(missing, spec))
    found = {p: _result(future).offset for p, future in asked.items()}
    ends = {
        p: _result(future).offset
        for p, future in client.list_offsets({p: OffsetSpec.latest() for p in missing}).items()
    }
    starts = [TopicPartition(p.topic, p.partition, offset if offset >= 0 else ends[p]) for p, offset in found.items()]
    topics.commit(client, group, starts)


def _spec(start: str) -> Any:
    if start == "earliest":
        return OffsetSpec.earliest()
    if start == "latest":
        return OffsetSpec.latest()
    try:
        moment = dt.datetime.fromisoformat(start)
    except ValueError as error:
        raise SettingsError(f"--from {start!r}: write earliest, latest or an ISO 8601 time") from error
    return OffsetSpec.for_timestamp(round(moment.astimezone(dt.UTC).timestamp() * 1000))


def _result(future: Any) -> Any:
    return future.result(_TIMEOUT_S)
