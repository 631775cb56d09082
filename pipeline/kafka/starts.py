"""Where a group starts: at its committed offsets, never at a place by accident."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import SettingsError, Unreachable, UsageError
from pipeline.kafka import topics
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.source import SESSION_MS
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_TIMEOUT_S = 30.0
_GONE_S = SESSION_MS / 1000 + 2
_LOOK_S = 0.2


def ensure(settings: Settings, group: str, names: tuple[str, ...], start: str | None = None) -> None:
    """See that the group has an offset for every partition of these topics.

    With `start` (`earliest`, `latest`, or an ISO 8601 time) the missing ones are set. Raises `UsageError` when some are
    missing and nothing is said, `Unreachable`.
    """
    require(settings, names)
    client = topics.admin(settings)
    every = _partitions(client, names)
    with offsets_of(settings, group) as offsets:
        held = offsets.committed(every)
        missing = [partition for partition in every if partition not in held]
        if missing and start is None:
            raise UsageError(
                f"group {group} has no offset for {missing[0][0]}[{missing[0][1]}]: run `pipeline topics create`, "
                "or say where it starts with --from earliest|latest|TIME"
            )
        if missing and start is not None:
            offsets.commit(_starts(client, missing, _spec(start)))


def anew(
    settings: Settings, group: str, names: tuple[str, ...], forget: Callable[[], None], patience_s: float = _GONE_S
) -> None:
    """Set the group back to the beginnings of these topics, and let `forget` remove what it has made of them.

    What was forgotten is read again also if this ends in the middle. The offsets are set once more afterwards: that is
    refused if somebody has begun to read meanwhile. Blocks. Raises `UsageError` when the group still has members after
    `patience_s` (those that were stopped count until their session ends), `Unreachable`.
    """
    require(settings, names)
    client = topics.admin(settings)
    firsts = _ask(client, _partitions(client, names), OffsetSpec.earliest())
    with offsets_of(settings, group) as offsets:

        def set_back(patience_s: float) -> None:
            _await_no_members(client, group, patience_s)
            offsets.commit(firsts)

        set_back(patience_s)
        forget()
        set_back(0)


def require(settings: Settings, names: tuple[str, ...]) -> None:
    """See that these topics are there, before anything is written to them. Raises `UsageError`, `Unreachable`."""
    there = topics.existing(topics.admin(settings))
    if absent := [name for name in names if name not in there]:
        raise UsageError(f"topic {absent[0]} is not there: run `pipeline topics create`")


def _await_no_members(client: AdminClient, group: str, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while count := topics.members(client, group):
        if time.monotonic() >= until:
            raise UsageError(f"group {group} still has members at work ({count}): stop them first")
        time.sleep(_LOOK_S)


def _partitions(client: AdminClient, names: tuple[str, ...]) -> list[Partition]:
    counts = topics.existing(client)
    return [(name, number) for name in names for number in range(counts[name])]


def _starts(client: AdminClient, partitions: list[Partition], spec: Any) -> dict[Partition, int]:
    """Where each partition is at `spec`; its end where no record is as late."""
    found, ends = _ask(client, partitions, spec), _ask(client, partitions, OffsetSpec.latest())
    return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}


def _ask(client: AdminClient, partitions: list[Partition], spec: Any) -> dict[Partition, int]:
    asked = client.list_offsets({TopicPartition(*partition): spec for partition in partitions})
    try:
        return {(p.topic, p.partition): answer.result(_TIMEOUT_S).offset for p, answer in asked.items()}
    except KafkaException as error:
        raise Unreachable(f"Kafka does not tell its offsets: {error.args[0].str()}") from error


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
