"""How far each group is behind: records, and the age of the oldest one that it has not finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import Unreachable
from pipeline.flow.retry import Ladder, topic_span_ms
from pipeline.kafka import topics
from pipeline.kafka.clients import consumer_config
from pipeline.settings import Settings

_TIMEOUT_S = 15.0
_OLDEST_S = 5.0
"""How long the oldest unfinished records may take to be fetched."""

Place = tuple[str, int]
Offsets = dict[Place, int]


@dataclass(frozen=True, slots=True)
class TopicLag:
    """One topic of a group: records not finished, and how late the oldest of them is.

    `seconds` is its age; in a tier, how long it has been due, so that a record which waits as it should counts as 0.
    None where the record could not be fetched in time.
    """

    topic: str
    records: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GroupLag:
    """A group; `per_second` is how fast its committed offsets moved while it was looked at."""

    group: str
    members: int
    per_second: float
    topics: tuple[TopicLag, ...]

    @property
    def records(self) -> int:
        """Records not finished, in all its topics."""
        return sum(topic.records for topic in self.topics)

    @property
    def seconds(self) -> float | None:
        """How late the oldest is; None where that is not known."""
        ages = [topic.seconds for topic in self.topics]
        return None if None in ages else max((age for age in ages if age is not None), default=0.0)


def measure(
    settings: Settings, groups: Collection[str], interval_s: float, pause: Callable[[float], None] = time.sleep
) -> list[GroupLag]:
    """Look twice, `interval_s` seconds apart. Blocks. Raises `Unreachable`.

    Ages compare the records' timestamps with this machine's clock.
    """
    admin = topics.admin(settings)
    try:
        before, since = {group: committed(admin, group) for group in groups}, time.monotonic()
        members = {group: topics.members(admin, group) for group in groups}
        pause(interval_s)
        after, elapsed = {group: committed(admin, group) for group in groups}, time.monotonic() - since
        ends = ends_of(admin, {place for offsets in after.values() for place in offsets})
        oldest = {group: _oldest(settings, _unfinished(offsets, ends)) for group, offsets in after.items()}
    except KafkaException as error:
        raise Unreachable(f"Kafka does not tell how far its groups are: {error.args[0].str()}") from error
    waits = {tier.topic: tier.wait_ms for tier in Ladder.parse(settings.ladder).tiers}
    return [
        GroupLag(
            group, members[group], _rate(before[group], offsets, elapsed), _lags(offsets, ends, oldest[group], waits)
        )
        for group, offsets in after.items()
    ]


def _lags(offsets: Offsets, ends: Offsets, oldest: Offsets, waits: Mapping[str, int]) -> tuple[TopicLag, ...]:
    names = sorted({topic for topic, _ in offsets})
    now_ms = time.time() * 1000
    return tuple(_lag(name, _of(name, offsets), ends, oldest, now_ms - _wait_ms(name, waits)) for name in names)


def _lag(topic: str, offsets: Offsets, ends: Offsets, oldest: Offsets, due_ms: float) -> TopicLag:
    """`due_ms`: records older than this are late."""
    behind = {place: ends[place] - offset for place, offset in _unfinished(offsets, ends).items()}
    known = [oldest[place] for place in behind if place in oldest]
    if len(known) < len(behind):
        return TopicLag(topic, sum(behind.values()), None)
    return TopicLag(topic, sum(behind.values()), max(0.0, round((due_ms - min(known, default=due_ms)) / 1000, 1)))


def _wait_ms(topic: str, waits: Mapping[str, int]) -> int:
    return waits.get(topic, topic_span_ms(topic) or 0)


def _rate(before: Offsets, after: Offsets, elapsed_s: float) -> float:
    moved = sum(max(0, offset - before.get(place, offset)) for place, offset in after.items())
    return round(moved / elapsed_s, 1)


def _of(topic: str, offsets: Offsets) -> Offsets:
    return {place: offset for place, offset in offsets.items() if place[0] == topic}


def _unfinished(offsets: Offsets, ends: Offsets) -> Offsets:
    """Where each partition's oldest unfinished record lies."""
    return {place: offset for place, offset in offsets.items() if ends.get(place, 0) > offset}


def committed(admin: AdminClient, group: str) -> Offsets:
    """Every offset that a group has. Raises `KafkaException`, `TimeoutError`."""
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=_TIMEOUT_S)
    held = _value(asked[group]).topic_partitions or ()
    return {(p.topic, p.partition): p.offset for p in held if p.offset >= 0}


def left(admin: AdminClient, group: str, ends: Offsets) -> int:
    """How many records below these ends the group has not finished. Raises `Unreachable`."""
    try:
        held = committed(admin, group)
    except (KafkaException, TimeoutError) as error:
        raise Unreachable(f"Kafka does not tell how far {group} is: {error}") from error
    return sum(max(end - held.get(place, 0), 0) for place, end in ends.items())


def ends_of(admin: AdminClient, places: Collection[Place]) -> Offsets:
    """The last stable offsets: what a group can have read. Raises `KafkaException`, `TimeoutError`."""
    if not places:
        return {}
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    asked = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT_S)
    return {(p.topic, p.partition): _value(future).offset for p, future in asked.items()}


def _oldest(settings: Settings, places: Offsets) -> Offsets:
    """The timestamp (milliseconds) of the first record at or after each offset; of those that came in time."""
    found: Offsets = {}
    if not places:
        return found
    consumer = Consumer(_one_record(settings))
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
        until = time.monotonic() + _OLDEST_S
        while len(found) < len(places) and time.monotonic() < until:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                place = (message.topic() or "", message.partition() or 0)
                found.setdefault(place, message.timestamp()[1])
                consumer.pause([TopicPartition(*place)])
    finally:
        consumer.close()
    return found


def _one_record(settings: Settings) -> dict[str, object]:
    """A consumer that fetches little: one record of each partition is all that is wanted."""
    little = {"fetch_message_max_bytes": 65_536, "queued_min_messages": 1, "auto_offset_reset": "earliest"}
    return consumer_config(settings, group_id="pipeline-status", **little)


def _value(future: Any) -> Any:
    return future.result(_TIMEOUT_S)
