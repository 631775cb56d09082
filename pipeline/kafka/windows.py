"""Which offsets a window is: times and offsets that were asked for, against what the log has.

A record's time is its timestamp, which for `events` is when it was produced (CreateTime); of a time the window has the
first record that is not older, as Kafka itself tells it. The end is the last stable offset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import UsageError
from pipeline.flow.replay import Span
from pipeline.flow.window import Asked, Empty, Gap, Window
from pipeline.kafka.age import committed, gone_before_ms, unanswered, value
from pipeline.kafka.topics import admin, existing
from pipeline.settings import Settings

_TIMEOUT_S = 10.0
_ROUTER = "pipeline-router"

Offsets = dict[int, int]


@dataclass(frozen=True, slots=True)
class Log:
    """What a topic's partitions have: offsets [begins, ends), the time of the first record and of the newest.

    `gone_before_ms`: retention has taken nothing that is as young as this; None: that is not known.
    """

    begins: Offsets
    ends: Offsets
    first_ms: Mapping[int, int]
    newest_ms: Mapping[int, int]
    gone_before_ms: float | None = None


async def resolve(settings: Settings, topic: str, asked: Asked) -> Window:
    """The window as it is now. Raises `Unreachable`, and `UsageError` for a partition or topic that is not there."""
    return await asyncio.to_thread(_resolve, settings, topic, asked)


def _resolve(settings: Settings, topic: str, asked: Asked) -> Window:
    client = admin(settings)
    try:
        reader = _Reader(client, topic, _partitions(client, topic, asked))
        log = reader.log()
        if asked.from_ms is not None and any(begin for p, begin in log.begins.items() if p not in log.first_ms):
            log = replace(log, gone_before_ms=gone_before_ms(client, topic, time.time() * 1000))
        starts, ends = _bounds(reader, log, asked)
    except (KafkaException, TimeoutError) as error:
        raise unanswered(error) from error
    routed = _routed(settings, topic, log) if asked.routed else ends
    return window(asked, log, starts, ends, routed)


def window(asked: Asked, log: Log, starts: Offsets, ends: Offsets, routed: Offsets) -> Window:
    """Of the offsets at which what was asked for begins and ends, and up to which the router has come."""
    whole = [Span(p, max(starts[p], log.begins[p]), min(end, log.ends[p])) for p, end in sorted(ends.items())]
    there = [span for span in whole if span.start < span.end]
    cut = [Span(span.partition, span.start, min(span.end, routed.get(span.partition, 0))) for span in there]
    spans = tuple(span for span in cut if span.start < span.end)
    gap = _gap_of_offsets(asked, log) if asked.offsets else _gap_of_times(asked, log, starts)
    return Window(
        spans,
        gap,
        None if spans else Empty.UNROUTED if there else _emptiness(asked, log, gap),
        min(log.first_ms.values(), default=None),
        max(log.newest_ms.values(), default=None),
        sum(span.end - span.start for span in there) - sum(span.end - span.start for span in spans),
    )


def _gap_of_offsets(asked: Asked, log: Log) -> Gap | None:
    """What lay below the log's beginning is gone, to the record."""
    gone = {
        p: min(end, log.begins[p]) - start
        for p, (start, end) in asked.offsets.items()
        if start < min(end, log.begins[p])
    }
    return Gap(tuple(sorted(gone)), None, _whole_from(log, gone), sum(gone.values())) if gone else None


def _gap_of_times(asked: Asked, log: Log, starts: Offsets) -> Gap | None:
    """A partition of which the beginning is gone may have had records between the window's begin and its first.

    One that is empty has no first: it may have had some where the window begins before all that is surely kept.
    """
    begin_ms = asked.from_ms
    if begin_ms is None:
        return None
    first_ms = {p: log.first_ms.get(p, inf if _may_lack(log, begin_ms) else -inf) for p in log.begins}
    gone = [p for p, begin in sorted(log.begins.items()) if begin > 0 and starts[p] <= begin and first_ms[p] > begin_ms]
    return Gap(tuple(gone), begin_ms, _whole_from(log, gone)) if gone else None


def _may_lack(log: Log, begin_ms: int) -> bool:
    """Whether an empty partition may have had records since then: of a topic that has lost everything nobody knows."""
    return log.gone_before_ms is None or begin_ms < log.gone_before_ms or not log.first_ms


def _whole_from(log: Log, partitions: Iterable[int]) -> int | None:
    return max((log.first_ms[p] for p in partitions if p in log.first_ms), default=None)


def _emptiness(asked: Asked, log: Log, gap: Gap | None) -> Empty:
    if gap is None:
        return Empty.NOTHING
    if asked.offsets:
        before = all(end <= log.begins[p] for p, (_, end) in asked.offsets.items())
    else:
        oldest_ms = min(log.first_ms.values(), default=None)
        before = oldest_ms is None or (asked.to_ms is not None and asked.to_ms <= oldest_ms)
    return Empty.REMOVED if before else Empty.NOTHING


def _partitions(client: AdminClient, topic: str, asked: Asked) -> list[int]:
    """All, or those that were asked for."""
    count = existing(client).get(topic, 0)
    if not count:
        raise UsageError(f"topic {topic} is not there: run `pipeline topics create`")
    if strange := sorted(set(asked.offsets) - set(range(count))):
        raise UsageError(f"topic {topic} has no partition {strange[0]}: its partitions are 0 to {count - 1}")
    return sorted(asked.offsets) or list(range(count))


def _bounds(reader: _Reader, log: Log, asked: Asked) -> tuple[Offsets, Offsets]:
    if asked.offsets:
        return {p: start for p, (start, _) in asked.offsets.items()}, {p: end for p, (_, end) in asked.offsets.items()}
    starts = log.begins if asked.from_ms is None else reader.at(asked.from_ms, log)
    return starts, log.ends if asked.to_ms is None else reader.at(asked.to_ms, log)


def _routed(settings: Settings, topic: str, log: Log) -> Offsets:
    """What the router has committed; where it has nothing, it has read nothing."""
    found = committed(settings, _ROUTER, [(topic, p) for p in log.ends])
    return {partition: offset for (_, partition), offset in found.items()}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Asks for the offsets of these partitions. Raises `KafkaException`, `TimeoutError`."""

    client: AdminClient
    topic: str
    partitions: list[int]

    def log(self) -> Log:
        """What there is now; the ends first: what is written meanwhile is not in the window."""
        ends = self._asked(OffsetSpec.latest())
        begins = self._asked(OffsetSpec.earliest())
        first, newest = self._asked(OffsetSpec.for_timestamp(0)), self._asked(OffsetSpec.max_timestamp())
        return Log(
            {p: offset for p, (offset, _) in begins.items()},
            {p: offset for p, (offset, _) in ends.items()},
            {p: at_ms for p, (offset, at_ms) in first.items() if offset >= 0},
            {p: at_ms for p, (offset, at_ms) in newest.items() if offset >= 0},
        )

    def at(self, at_ms: int, log: Log) -> Offsets:
        """The first record that is not older than this; where there is none, the end."""
        found = self._asked(OffsetSpec.for_timestamp(at_ms))
        return {p: offset if offset >= 0 else log.ends[p] for p, (offset, _) in found.items()}

    def _asked(self, spec: OffsetSpec) -> dict[int, tuple[int, int]]:
        """Offset and timestamp of each, -1 for none."""
        wanted = {TopicPartition(self.topic, p): spec for p in self.partitions}
        level = IsolationLevel.READ_COMMITTED
        answers = self.client.list_offsets(wanted, isolation_level=level, request_timeout=_TIMEOUT_S)
        told = {place.partition: value(answer) for place, answer in answers.items()}
        return {p: (answer.offset, answer.timestamp) for p, answer in told.items()}
