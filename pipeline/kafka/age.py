"""How long records are kept, and which are older than a moment: by offsets, without reading them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from pipeline.errors import Unreachable
from pipeline.kafka import topics
from pipeline.kafka.clients import client_config, learn_leaders
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_TIMEOUT_S = 10.0
_EVERY_S = 60.0
_HOUR_MS = 3_600_000
_READER = "pipeline-router"

T = TypeVar("T")
_log = structlog.get_logger()


class Unread:
    """Warns when events that nobody has read are older than half of the time for which they are kept."""

    def __init__(self, settings: Settings) -> None:
        config: dict[str, Any] = client_config(settings)
        self._settings, self._client = settings, AdminClient(config)
        self.warning: str | None = None

    async def run(self) -> NoReturn:
        """Look once a minute, until cancelled; what was seen last stands while Kafka does not answer."""
        while True:
            try:
                now_ms = time.time() * 1000
                self.warning = await asyncio.to_thread(unread_warning, self._settings, self._client, now_ms)
            except Unreachable as error:
                _log.warning("age of the unread events unknown", reason=str(error))
                await asyncio.to_thread(learn_leaders, self._client)
            await asyncio.sleep(_EVERY_S)


def unread_warning(
    settings: Settings, client: AdminClient, now_ms: float, topic: str = topics.EVENTS, group: str = _READER
) -> str | None:
    """A sentence when the group's oldest unread record has passed half the topic's retention; else None.

    `now_ms` is compared with the records' own timestamps, as Kafka does when it removes them; an old record behind a
    young one is kept as long as that one. Raises `Unreachable`.
    """
    try:
        if (kept := kept_ms(client, topic)) is None:
            return None
        old = offsets_at(client, partitions_of(client, [topic]), now_ms - kept / 2)
        read = committed(settings, group, old)
    except (KafkaException, TimeoutError) as error:
        raise unanswered(error) from error
    count = sum(max(end - read.get(partition, 0), 0) for partition, end in old.items())
    if count == 0:
        return None
    return (
        f"{count} records of {topic} are unread and older than {kept / 2 / _HOUR_MS:g} h, half of the time for which "
        f"they are kept: what {group} has not read by then is lost"
    )


def committed(settings: Settings, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Those of the partitions for which the group has an offset. Raises `Unreachable`."""
    with offsets_of(settings, group, _TIMEOUT_S) as offsets:
        return offsets.committed(partitions)


def kept_ms(client: AdminClient, topic: str) -> int | None:
    """How long a topic keeps its records; None: for ever. Raises `KafkaException`, `TimeoutError`."""
    return _kept(client, topic)["retention.ms"]


def gone_before_ms(client: AdminClient, topic: str, now_ms: float) -> float | None:
    """Retention has removed nothing that is as young as this moment; None where its size decides, or nothing does.

    An hour is for clocks that differ. Raises `KafkaException`, `TimeoutError`.
    """
    kept = _kept(client, topic)
    age_ms = kept["retention.ms"]
    return None if age_ms is None or kept["retention.bytes"] is not None else now_ms - age_ms + _HOUR_MS


def _kept(client: AdminClient, topic: str) -> dict[str, int | None]:
    """By age and size; None: no matter how old, or large."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    answer = value(client.describe_configs([resource], request_timeout=_TIMEOUT_S)[resource])
    found = {name: int(answer[name].value) for name in ("retention.ms", "retention.bytes")}
    return {name: None if kept < 0 else kept for name, kept in found.items()}


def partitions_of(client: AdminClient, names: Iterable[str]) -> list[Partition]:
    """The partitions of those of the topics that there are. Raises `KafkaException`."""
    there = client.list_topics(timeout=_TIMEOUT_S).topics
    return [(name, number) for name in names if name in there for number in there[name].partitions]


def offsets_at(client: AdminClient, partitions: Collection[Partition], at_ms: float) -> dict[Partition, int]:
    """Everything below these offsets is older than a moment (milliseconds since the epoch).

    Where nothing is as young it is the end, asked for first: what is written meanwhile is not taken for old.
    Raises `KafkaException`, `TimeoutError`.
    """
    ends = offsets(client, partitions, OffsetSpec.latest())
    found = offsets(client, partitions, OffsetSpec.for_timestamp(int(at_ms)))
    return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}


def offsets(client: AdminClient, partitions: Collection[Partition], spec: OffsetSpec) -> dict[Partition, int]:
    """Where each partition is at `spec`. Raises `KafkaException`, `TimeoutError`."""
    if not partitions:
        return {}
    asked = client.list_offsets({TopicPartition(*p): spec for p in partitions}, request_timeout=_TIMEOUT_S)
    return {(p.topic, p.partition): value(answer).offset for p, answer in asked.items()}


def value(answer: Future[T]) -> T:
    """What a request has brought. Raises `KafkaException`, `TimeoutError`."""
    return answer.result(_TIMEOUT_S + 1)


def unanswered(error: KafkaException | TimeoutError) -> Unreachable:
    """In our words."""
    reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
    return Unreachable(f"Kafka does not tell its offsets: {reason}")
