"""Trimming: topics that Kafka itself never empties lose what is done with.

A record is removed when every group that has to work on it has committed an offset above it; one of `deliveries` also
has to be older than events are kept, because a delivery is sent again from there. Whatever is not known (a group's
commit, the time, how long events are kept) keeps the records.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import Unreachable
from pipeline.kafka import topics
from pipeline.kafka.age import committed, kept_ms, offsets, offsets_at, partitions_of, unanswered, value
from pipeline.kafka.clients import client_config, learn_leaders
from pipeline.kafka.clock import BrokerClock
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_EVERY_S = 60.0
_TIMEOUT_S = 10.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who must have committed an offset above a record, and whether it must be older than events are kept."""

    groups: tuple[str, ...]
    aged: bool = False


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What has become of the topics: records that each has lost; records old enough to go that wait for a group."""

    removed: Mapping[str, int]
    held: Mapping[tuple[str, str], int]
    """By topic and group."""


def rules(there: Iterable[str]) -> dict[str, Rule]:
    """The rule of each topic that is trimmed, given the topics that there are."""
    readers = tuple(group for group, read in topics.GROUPS.items() if topics.DELIVERIES in read)
    return {
        **{tier: Rule((topics.DELAY_GROUP,)) for tier in topics.delayed(there)},
        topics.DELIVERIES: Rule(readers, aged=True),
        topics.DELIVERIES_REPLAY: Rule((topics.DELAY_GROUP,), aged=True),
    }


class Trimming:
    """Trims once a minute. Any number of processes may do so: what is removed is removed."""

    def __init__(self, settings: Settings, clock: BrokerClock) -> None:
        config: dict[str, Any] = client_config(settings)
        self._settings, self._client, self._clock = settings, AdminClient(config), clock
        self.warning: str | None = None
        """What stays on the disk because nobody reads it; None if nothing does."""

    async def run(self) -> NoReturn:
        """Until cancelled; while Kafka does not answer nothing is removed."""
        while True:
            await asyncio.sleep(_EVERY_S)
            now_ms = self._clock.now_ms() if self._clock.known else None
            try:
                trimmed = await asyncio.to_thread(self._once, now_ms)
            except Unreachable as error:
                _log.warning("not trimmed", reason=str(error))
                await asyncio.to_thread(learn_leaders, self._client)
            else:
                self.warning = _warning(trimmed.held)
                for topic, count in trimmed.removed.items():
                    _log.info("trimmed", topic=topic, records=count)

    def _once(self, now_ms: float | None) -> Trimmed:
        try:
            there = self._client.list_topics(timeout=_TIMEOUT_S).topics
        except KafkaException as error:
            raise unanswered(error) from error
        return trim(self._settings, self._client, rules(there), now_ms)


def trim(
    settings: Settings,
    client: AdminClient,
    ruled: Mapping[str, Rule],
    now_ms: float | None,
    kept_as: str = topics.EVENTS,
) -> Trimmed:
    """Remove what the rules allow. Blocks. Raises `Unreachable`.

    `now_ms` is the broker's time; None where it is not known. `kept_as` is the topic whose retention is the age.
    """
    try:
        partitions = partitions_of(client, ruled)
        commits = {group: committed(settings, group, partitions) for group in _groups(ruled)}
        old = _old(client, ruled, partitions, now_ms, kept_as)
        limits = _limits(ruled, commits, partitions, old)
        firsts = offsets(client, {*limits, *old}, OffsetSpec.earliest())
        removed = _removed(client, {p: limit for p, limit in limits.items() if limit > firsts[p]}, firsts)
        return Trimmed(removed, _held(ruled, commits, old, firsts))
    except (KafkaException, TimeoutError) as error:
        raise unanswered(error) from error


def _groups(ruled: Mapping[str, Rule]) -> set[str]:
    return {group for rule in ruled.values() for group in rule.groups}


def _old(
    client: AdminClient, ruled: Mapping[str, Rule], partitions: list[Partition], now_ms: float | None, kept_as: str
) -> Mapping[Partition, int]:
    """Below which offset what must age is old enough; nothing where that is not known."""
    aged = [partition for partition in partitions if ruled[partition[0]].aged]
    kept = kept_ms(client, kept_as) if aged else None
    return {} if now_ms is None or kept is None else offsets_at(client, aged, now_ms - kept)


def _limits(
    ruled: Mapping[str, Rule],
    commits: Mapping[str, Mapping[Partition, int]],
    partitions: list[Partition],
    old: Mapping[Partition, int],
) -> dict[Partition, int]:
    """Below which offset each partition may be trimmed; those that must not be are left out."""
    limits: dict[Partition, int] = {}
    for partition in partitions:
        rule = ruled[partition[0]]
        bounds = [commits[group].get(partition) for group in rule.groups] + [old.get(partition)] * rule.aged
        known = [bound for bound in bounds if bound is not None]
        if rule.groups and len(known) == len(bounds):
            limits[partition] = min(known)
    return limits


def _held(
    ruled: Mapping[str, Rule],
    commits: Mapping[str, Mapping[Partition, int]],
    old: Mapping[Partition, int],
    firsts: Mapping[Partition, int],
) -> Counter[tuple[str, str]]:
    """How many records of a topic are old enough to go and have not been read by a group."""
    count: Counter[tuple[str, str]] = Counter()
    for partition, end in old.items():
        for group in ruled[partition[0]].groups:
            count[partition[0], group] += max(end - max(commits[group].get(partition, 0), firsts[partition]), 0)
    return +count


def _warning(held: Mapping[tuple[str, str], int]) -> str | None:
    told = [
        f"{count} records of {topic} are old enough to be removed and stay, because {group} has not read them"
        for (topic, group), count in held.items()
    ]
    return "; ".join(told) or None


def _removed(client: AdminClient, limits: Mapping[Partition, int], firsts: Mapping[Partition, int]) -> Counter[str]:
    """Remove what is below the limits. A partition that refuses (its log ends below the commit) keeps its records."""
    count: Counter[str] = Counter()
    if not limits:
        return count
    asked = client.delete_records(
        [TopicPartition(*p, limit) for p, limit in limits.items()], request_timeout=_TIMEOUT_S
    )
    for place, answer in asked.items():
        try:
            first = value(answer).low_watermark
        except KafkaException as error:
            _log.warning("not trimmed", topic=place.topic, partition=place.partition, reason=error.args[0].str())
        else:
            count[place.topic] += max(first - firsts[place.topic, place.partition], 0)
    return count
