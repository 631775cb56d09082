"""Which offsets a window is, and what is told of one that holds nothing, or not all that there was."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from pipeline.errors import UsageError
from pipeline.flow.replay import Span
from pipeline.flow.window import Asked, Empty, Gap, Window
from pipeline.kafka import topics, windows
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.windows import Log, resolve, window
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, new_topic, producing, settings_of
from tests.live_cluster import LiveCluster

pytestmark = pytest.mark.replay

BEGIN_MS = 1_700_000_000_000
KEPT = {"retention.ms": "-1"}


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


def log(begins: Mapping[int, int], ends: Mapping[int, int], first: Mapping[int, int]) -> Log:
    """Partitions whose newest records are a second after their first."""
    return Log(dict(begins), dict(ends), first, {p: at_ms + 1_000 for p, at_ms in first.items()})


TRIMMED = log({0: 0, 1: 40}, {0: 90, 1: 90}, {0: 500, 1: 3_000})
"""Partition 0 is whole; of 1 the first 40 are gone."""


def found(asked: Asked, starts: dict[int, int], ends: dict[int, int], routed: dict[int, int] | None = None) -> Window:
    return window(asked, TRIMMED, starts, ends, ends if routed is None else routed)


def test_partitions_of_which_nothing_is_in_a_window_have_no_span() -> None:
    """The others have what is asked for, as far as the log goes."""
    made = found(Asked(from_ms=3_000, to_ms=4_000), {0: 90, 1: 41}, {0: 90, 1: 95})
    assert (made.spans, made.gap, made.empty, made.records) == ((Span(1, 41, 90),), None, None, 49)
    assert (made.oldest_ms, made.newest_ms) == (500, 4_000)


@pytest.mark.parametrize(
    ("from_ms", "gap"),
    [(2_999, Gap((1,), 2_999, 3_000)), (3_000, None), (None, None)],
    ids=["before the first", "at the first", "as far as there is"],
)
def test_a_window_that_begins_before_a_trimmed_partition_has_a_gap(from_ms: int | None, gap: Gap | None) -> None:
    """What lay there cannot be told from times; a partition that is whole has none, however far back one asks."""
    made = found(Asked(from_ms=from_ms), {0: 0, 1: 40}, {0: 90, 1: 90})
    assert (made.gap, made.empty) == (gap, None)


def test_offsets_tell_how_many_are_gone() -> None:
    """Of what is asked for and lies below the log's beginning, to the record."""
    asked = Asked(offsets={0: (0, 10), 1: (30, 60)})
    made = window(asked, TRIMMED, {0: 0, 1: 30}, {0: 10, 1: 60}, {0: 10, 1: 60})
    assert made.gap == Gap((1,), None, 3_000, 10)
    assert made.spans == (Span(0, 0, 10), Span(1, 40, 60))


@pytest.mark.parametrize(
    ("asked", "starts", "ends", "empty"),
    [
        (Asked(from_ms=100, to_ms=400), {0: 0, 1: 40}, {0: 0, 1: 40}, Empty.REMOVED),
        (Asked(from_ms=600, to_ms=700), {0: 50, 1: 40}, {0: 50, 1: 40}, Empty.NOTHING),
        (Asked(from_ms=9_000), {0: 90, 1: 90}, {0: 90, 1: 90}, Empty.NOTHING),
        (Asked(offsets={1: (0, 40)}), {1: 0}, {1: 40}, Empty.REMOVED),
        (Asked(offsets={1: (90, 99)}), {1: 90}, {1: 99}, Empty.NOTHING),
        (Asked(offsets={0: (95, 99), 1: (0, 20)}), {0: 95, 1: 0}, {0: 99, 1: 20}, Empty.NOTHING),
    ],
    ids=["before", "between", "after", "offsets before", "offsets after", "offsets before and after"],
)
def test_an_empty_window_says_why(asked: Asked, starts: dict[int, int], ends: dict[int, int], empty: Empty) -> None:
    """That it lies before what the log still has is another thing than that nothing happened then."""
    made = found(asked, starts, ends)
    assert (made.spans, made.empty) == ((), empty)


def test_a_topic_of_which_all_is_gone_is_told_from_one_that_never_had_anything() -> None:
    """Both hold nothing; of one of them retention has taken it."""
    asked, at = Asked(from_ms=5), {0: 7}
    gone = window(asked, log({0: 7}, {0: 7}, {}), at, at, at)
    assert (gone.empty, gone.gap, gone.oldest_ms) == (Empty.REMOVED, Gap((0,), 5), None)
    never = window(asked, log({0: 0}, {0: 0}, {}), {0: 0}, {0: 0}, {0: 0})
    assert (never.empty, never.gap) == (Empty.NOTHING, None)


@pytest.mark.parametrize(
    ("before_ms", "from_ms", "gone"),
    [(400, 400, (1,)), (400, 399, (1, 2)), (None, 400, (1, 2))],
    ids=["kept since then", "not kept for so long", "not known"],
)
def test_an_empty_partition_has_lost_something_only_if_retention_reaches_so_far(
    before_ms: float | None, from_ms: int, gone: tuple[int, ...]
) -> None:
    """It may be empty for weeks: that is no gap of the last hours. One that still has records is judged by these."""
    begins, ends = {0: 0, 1: 40, 2: 7}, {0: 90, 1: 90, 2: 7}
    kept = replace(log(begins, ends, {0: 500, 1: 3_000}), gone_before_ms=before_ms)
    made = window(Asked(from_ms=from_ms), kept, {0: 0, 1: 40, 2: 7}, ends, ends)
    assert made.gap == Gap(gone, from_ms, 3_000)


def test_a_topic_that_has_lost_everything_is_no_witness() -> None:
    """Where nothing is left it was not retention by age alone: all that lay there may have been of the window."""
    kept = replace(log({0: 7}, {0: 7}, {}), gone_before_ms=400)
    assert window(Asked(from_ms=500), kept, {0: 7}, {0: 7}, {0: 7}).gap == Gap((0,), 500)


def test_a_window_is_cut_at_what_the_router_has_committed() -> None:
    """What is behind that is on its way, and counted; where it has committed nothing, all is."""
    asked, starts, ends = Asked(from_ms=3_000, routed=True), {0: 10, 1: 40}, {0: 90, 1: 90}
    made = found(asked, starts, ends, {0: 30, 1: 99})
    assert (made.spans, made.unrouted) == ((Span(0, 10, 30), Span(1, 40, 90)), 60)
    made = found(asked, starts, ends, {0: 10})
    assert (made.spans, made.unrouted, made.empty) == ((), 130, Empty.UNROUTED)


def write(settings: Settings, topic: str, partition: int, *at_s: int) -> None:
    """Records of these times, in seconds after the beginning."""
    producer = producing(settings)
    for seconds in at_s:
        producer.produce(topic, b"x", None, partition, timestamp=BEGIN_MS + seconds * 1_000)
        assert producer.flush(PATIENCE_S) == 0  # each in a batch of its own


def delete(settings: Settings, topic: str, partition: int, below: int) -> None:
    """As retention does."""
    client, place = topics.admin(settings), TopicPartition(topic, partition, below)
    client.delete_records([place])[place].result(PATIENCE_S)


def at(seconds: float) -> int:
    return BEGIN_MS + int(seconds * 1_000)


async def test_times_are_found_by_the_records_own_timestamps(settings: Settings) -> None:
    """The first record that is not older begins it, the first that is not older than its end is not in it."""
    topic = new_topic(settings, 2, KEPT)
    write(settings, topic, 0, 0, 10, 20, 30)
    write(settings, topic, 1, 5)
    made = await resolve(settings, topic, Asked(from_ms=at(5.5), to_ms=at(20)))
    assert (made.spans, made.empty, made.gap) == ((Span(0, 1, 2),), None, None)
    assert (made.oldest_ms, made.newest_ms) == (at(0), at(30))
    made = await resolve(settings, topic, Asked(from_ms=at(5)))
    assert made.spans == (Span(0, 1, 4), Span(1, 0, 1))
    made = await resolve(settings, topic, Asked(to_ms=at(6)))
    assert made.spans == (Span(0, 0, 1), Span(1, 0, 1))
    made = await resolve(settings, topic, Asked(offsets={0: (2, 99)}))
    assert made.spans == (Span(0, 2, 4),)
    assert (await resolve(settings, topic, Asked(from_ms=at(31)))).empty is Empty.NOTHING


async def test_what_retention_has_taken_is_told(settings: Settings) -> None:
    """Nothing then, wholly before what there is, or a gap: three different answers of a real log."""
    topic = new_topic(settings, 2, KEPT)
    write(settings, topic, 0, 0, 10, 20, 30)
    write(settings, topic, 1, 15)
    delete(settings, topic, 0, 2)
    gap = await resolve(settings, topic, Asked(from_ms=at(5)))
    assert gap.spans == (Span(0, 2, 4), Span(1, 0, 1))
    assert gap.gap == Gap((0,), at(5), at(20))
    before = await resolve(settings, topic, Asked(from_ms=at(0), to_ms=at(12)))
    assert (before.spans, before.empty, before.oldest_ms) == ((), Empty.REMOVED, at(15))
    between = await resolve(settings, topic, Asked(from_ms=at(21), to_ms=at(29)))
    assert (between.spans, between.empty, between.gap) == ((), Empty.NOTHING, None)
    delete(settings, topic, 1, 1)
    delete(settings, topic, 0, 4)
    nothing = await resolve(settings, topic, Asked(from_ms=at(5)))
    assert (nothing.empty, nothing.gap) == (Empty.REMOVED, Gap((0, 1), at(5)))


@pytest.mark.parametrize(
    ("config", "gone"),
    [({}, (0,)), ({"retention.bytes": "1000000000"}, (0, 1))],
    ids=["by age", "by size"],
)
async def test_how_long_a_topic_keeps_its_records_is_asked(
    settings: Settings, config: dict[str, str], gone: tuple[int, ...]
) -> None:
    """By age nothing of the last day is gone of an empty partition; a limit of size may have taken anything."""
    topic = new_topic(settings, 2, {"retention.ms": str(7 * 86_400_000), **config})
    now = time.time() - BEGIN_MS / 1000
    write(settings, topic, 0, int(now - 7_200), int(now))
    write(settings, topic, 1, int(now - 7_200))
    delete(settings, topic, 0, 1)
    delete(settings, topic, 1, 1)
    made = await resolve(settings, topic, Asked(from_ms=at(now - 86_400)))
    assert made.gap is not None
    assert made.gap.partitions == gone


async def test_an_open_transaction_is_not_in_a_window(settings: Settings) -> None:
    """Nobody who reads committed records would come to its end; once it is committed it is."""
    topic = new_topic(settings, 1, KEPT)
    write(settings, topic, 0, 0)
    config: dict[str, Any] = {"bootstrap.servers": settings.bootstrap_servers, "transactional.id": uuid.uuid4().hex}
    producer = Producer(config)
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(topic, b"x", None, 0, timestamp=at(1))
    assert producer.flush(PATIENCE_S) == 0
    assert (await resolve(settings, topic, Asked(from_ms=at(0)))).spans == (Span(0, 0, 1),)
    producer.commit_transaction(PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while (made := await resolve(settings, topic, Asked(from_ms=at(0)))).spans == (Span(0, 0, 1),):
        assert time.monotonic() < until  # its marker is written a moment later
    assert made.spans == (Span(0, 0, 3),)


async def test_the_routers_commits_are_asked_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where an outcome depends on it."""
    topic, group = new_topic(settings, 2, KEPT), f"tests-router-{uuid.uuid4()}"
    monkeypatch.setattr(windows, "_ROUTER", group)
    write(settings, topic, 0, 0, 10)
    write(settings, topic, 1, 0)
    with offsets_of(settings, group) as held:
        held.commit({(topic, 0): 1})
    assert (await resolve(settings, topic, Asked(routed=True))).spans == (Span(0, 0, 1),)
    assert (await resolve(settings, topic, Asked())).spans == (Span(0, 0, 2), Span(1, 0, 1))


async def test_a_partition_that_is_not_there_is_refused(settings: Settings) -> None:
    """In words that say which there are."""
    topic = new_topic(settings, 2, KEPT)
    with pytest.raises(UsageError, match=r"no partition 2: its partitions are 0 to 1"):
        await resolve(settings, topic, Asked(offsets={2: (0, 1)}))
    with pytest.raises(UsageError, match="not there"):
        await resolve(settings, f"{topic}-not", Asked())
