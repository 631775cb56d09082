from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.errors import Unreachable
from pipeline.flow.retry import DEFAULT
from pipeline.kafka import topics, trimming
from pipeline.kafka.age import offsets, partitions_of
from pipeline.kafka.clock import BrokerClock
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.trimming import Rule, Trimming, rules, trim
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, eventually, new_topic, producing, settings_of
from tests.live_cluster import LiveCluster

HOUR_MS = 3_600_000
DAY = {"retention.ms": str(24 * HOUR_MS)}
FOREVER = {"retention.ms": "-1"}


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def client(settings: Settings) -> AdminClient:
    return topics.admin(settings)


@pytest.fixture
def tier(settings: Settings) -> Iterator[str]:
    """A tier of the test's own; it is gone afterwards."""
    yield new_topic(settings, 2, FOREVER, "retry-211m")
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    admin.delete_topics(["retry-211m"])["retry-211m"].result(PATIENCE_S)


def write(settings: Settings, topic: str, *ages_h: float, partition: int = 0) -> None:
    """Records that were written so many hours ago."""
    producer, now_ms = producing(settings), time.time_ns() // 1_000_000
    for age_h in ages_h:
        producer.produce(topic, b"x", None, partition, timestamp=now_ms - int(age_h * HOUR_MS))
        assert producer.flush(PATIENCE_S) == 0  # each in a batch of its own: their times differ


def commit(settings: Settings, group: str, topic: str, offset: int, partition: int = 0) -> None:
    with offsets_of(settings, group) as held:
        held.commit({(topic, partition): offset})


def begins(client: AdminClient, topic: str) -> list[int]:
    """The first offset that each partition still has."""
    return [
        first for _, first in sorted(offsets(client, partitions_of(client, [topic]), OffsetSpec.earliest()).items())
    ]


def groups(*names: str) -> tuple[str, ...]:
    return tuple(f"tests-{name}-{uuid.uuid4()}" for name in names)


def now_ms() -> float:
    return time.time() * 1000


def test_what_was_forwarded_is_removed_and_nothing_beyond(settings: Settings, client: AdminClient) -> None:
    """A tier is trimmed up to the commit exactly; a partition without a commit keeps everything; again is no fault."""
    (delay,), tier = groups("delay"), new_topic(settings, 2, FOREVER)
    write(settings, tier, *[0] * 10)
    write(settings, tier, *[0] * 4, partition=1)
    commit(settings, delay, tier, 7)
    assert trim(settings, client, {tier: Rule((delay,))}, None).removed == {tier: 7}
    assert begins(client, tier) == [7, 0]
    assert trim(settings, client, {tier: Rule((delay,))}, None).removed == {}
    assert begins(client, tier) == [7, 0]


def test_the_slowest_group_decides(settings: Settings, client: AdminClient) -> None:
    """Where the recorder is behind the sender, its commit is the limit; without any of its own all is kept."""
    sender, recorder = groups("sender", "recorder")
    topic, events = new_topic(settings, 1, FOREVER), new_topic(settings, 1, DAY)
    write(settings, topic, *[30] * 10)
    commit(settings, sender, topic, 9)
    ruled = {topic: Rule((sender, recorder), aged=True)}
    assert trim(settings, client, ruled, now_ms(), events).removed == {}
    assert begins(client, topic) == [0]
    commit(settings, recorder, topic, 4)
    assert trim(settings, client, ruled, now_ms(), events).removed == {topic: 4}
    assert begins(client, topic) == [4]


def test_who_holds_up_what_is_old_enough_is_told(settings: Settings, client: AdminClient) -> None:
    """Records that may go but for a group that has not read them are counted by it; the young ones are not."""
    sender, recorder = groups("sender", "recorder")
    topic, events = new_topic(settings, 1, FOREVER), new_topic(settings, 1, DAY)
    write(settings, topic, *[30] * 6, 1, 1)
    commit(settings, sender, topic, 8)
    commit(settings, recorder, topic, 2)
    ruled = {topic: Rule((sender, recorder), aged=True)}
    trimmed = trim(settings, client, ruled, now_ms(), events)
    assert (trimmed.removed, trimmed.held) == ({topic: 2}, {(topic, recorder): 4})
    commit(settings, recorder, topic, 7)
    assert trim(settings, client, ruled, now_ms(), events).held == {}
    assert trim(settings, client, ruled, None, events).held == {}


def test_the_young_are_kept(settings: Settings, client: AdminClient) -> None:
    """A delivery is kept as long as its event, whoever is done with it; then it goes."""
    done = groups("sender", "recorder")
    topic, events = new_topic(settings, 1, FOREVER), new_topic(settings, 1, DAY)
    write(settings, topic, 30, 25, 23, 1)
    for group in done:
        commit(settings, group, topic, 4)
    ruled = {topic: Rule(done, aged=True)}
    assert trim(settings, client, ruled, None, events).removed == {}
    assert trim(settings, client, ruled, now_ms(), events).removed == {topic: 2}
    assert begins(client, topic) == [2]
    assert trim(settings, client, ruled, now_ms() + 24 * HOUR_MS, events).removed == {topic: 2}
    assert begins(client, topic) == [4]


def test_events_that_are_kept_for_ever_keep_their_deliveries(settings: Settings, client: AdminClient) -> None:
    """Where events have no age to pass, deliveries have none either."""
    done = groups("sender", "recorder")
    topic, events = new_topic(settings, 1, FOREVER), new_topic(settings, 1, FOREVER)
    write(settings, topic, 100, 100)
    for group in done:
        commit(settings, group, topic, 2)
    assert trim(settings, client, {topic: Rule(done, aged=True)}, now_ms(), events).removed == {}
    assert begins(client, topic) == [0]


def test_a_commit_beyond_the_end_removes_nothing(settings: Settings, client: AdminClient) -> None:
    """Where the broker lost the end of a log, the group's commit is no limit; the other partitions are trimmed."""
    (delay,), tier = groups("delay"), new_topic(settings, 2, FOREVER)
    write(settings, tier, *[0] * 3)
    write(settings, tier, *[0] * 3, partition=1)
    commit(settings, delay, tier, 5)
    commit(settings, delay, tier, 2, partition=1)
    assert trim(settings, client, {tier: Rule((delay,))}, None).removed == {tier: 2}
    assert begins(client, tier) == [0, 2]


def test_a_rule_without_a_group_removes_nothing(settings: Settings, client: AdminClient) -> None:
    """What nobody reads is nobody's to remove."""
    topic, events = new_topic(settings, 1, FOREVER), new_topic(settings, 1, DAY)
    write(settings, topic, 30)
    assert trim(settings, client, {topic: Rule(()), "not-there": Rule(())}, now_ms()).removed == {}
    assert trim(settings, client, {topic: Rule((), aged=True)}, now_ms(), events).removed == {}
    assert begins(client, topic) == [0]


def test_the_rules_of_the_flow() -> None:
    """Every tier by the delay group; deliveries by sender and recorder, and by age; nothing else is touched."""
    ruled = rules([*DEFAULT.split(), "retry-9h", "events", "deliveries", "deliveries-replay", "attempts", "retry-dlq"])
    assert ruled.pop("deliveries") == Rule(("pipeline-sender", "pipeline-recorder"), aged=True)
    assert ruled.pop("deliveries-replay") == Rule(("pipeline-delay",), aged=True)
    assert ruled == {tier: Rule(("pipeline-delay",)) for tier in [*DEFAULT.split(), "retry-9h"]}


async def test_it_goes_on_by_itself(settings: Settings, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks again and again, and a time without Kafka is passed over."""
    monkeypatch.setattr(trimming, "_EVERY_S", 0.05)
    failing = [Unreachable("no broker")]

    def trimmed(*arguments: Any) -> Any:
        if failing:
            raise failing.pop()
        return trim(*arguments)

    monkeypatch.setattr(trimming, "trim", trimmed)
    write(settings, tier, *[0] * 5)
    commit(settings, topics.DELAY_GROUP, tier, 3)
    client = topics.admin(settings)
    running = asyncio.create_task(Trimming(settings, BrokerClock()).run())
    while await asyncio.to_thread(begins, client, tier) != [3, 0]:
        assert not running.done()
    commit(settings, topics.DELAY_GROUP, tier, 4)
    while await asyncio.to_thread(begins, client, tier) != [4, 0]:
        assert not running.done()
    assert not failing
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_no_broker_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no broker answers it says so and tries again."""
    monkeypatch.setattr(trimming, "_EVERY_S", 0.01)
    monkeypatch.setattr(trimming, "_TIMEOUT_S", 0.1)
    tries = list[str]()
    monkeypatch.setattr(trimming._log, "warning", lambda _, reason: tries.append(reason))
    running = asyncio.create_task(Trimming(Settings(bootstrap_servers="127.0.0.1:1"), BrokerClock()).run())
    await eventually(lambda: len(tries) > 1)
    assert not running.done()
    running.cancel()
