"""`pipeline status` against a real broker."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pipeline.cli import status as module
from pipeline.kafka import topics
from pipeline.kafka.age import unread_warning
from pipeline.kafka.lag import measure
from pipeline.settings import Settings
from tests.cli.conftest import Command
from tests.kafka.live import new_topic
from tests.live_cluster import LiveCluster

pytestmark = pytest.mark.kafka

STAGES = ("router", "sender", "delay", "recorder", "replayer")
OLD_S = 100
HOUR_S = 3600


@pytest.fixture(scope="module")
def bootstrap(cluster: LiveCluster) -> str:
    settings = Settings(bootstrap_servers=cluster.bootstrap, schema_registry=cluster.registry)
    topics.create(settings, 4, 1)
    return cluster.bootstrap


def write(bootstrap: str, topic: str, *ages_s: float) -> int:
    """Records of these ages on partition 0; the offset of the first."""
    producer, offsets = Producer({"bootstrap.servers": bootstrap}), list[int]()
    for age_s in ages_s:
        stamp = int((time.time() - age_s) * 1000)
        producer.produce(
            topic, b"x", partition=0, timestamp=stamp, on_delivery=lambda _e, m: offsets.append(m.offset() or 0)
        )
    assert producer.flush(20) == 0
    return min(offsets)


def commit(bootstrap: str, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def test_lag_in_records_and_seconds(bootstrap: str) -> None:
    """What lies behind a group's commit is counted, and the oldest of it tells how late the group is."""
    first = write(bootstrap, topics.EVENTS, OLD_S + HOUR_S, OLD_S, 1)
    commit(bootstrap, "test-lag", topics.EVENTS, first + 1)
    (lag,) = measure(Settings(bootstrap_servers=bootstrap), ["test-lag"], 0.1)
    assert (lag.members, lag.records, lag.per_second) == (0, 2, 0.0)
    assert lag.seconds == pytest.approx(OLD_S, abs=20)
    assert [one.topic for one in lag.topics] == [topics.EVENTS]


def test_a_group_that_is_done_has_no_lag(bootstrap: str) -> None:
    """Without anything unfinished both kinds of lag are 0."""
    first = write(bootstrap, topics.ATTEMPTS, OLD_S)
    commit(bootstrap, "test-done", topics.ATTEMPTS, first + 1)
    (lag,) = measure(Settings(bootstrap_servers=bootstrap), ["test-done"], 0.1)
    assert (lag.records, lag.seconds) == (0, 0.0)


def test_waiting_as_it_should_is_no_delay(bootstrap: str) -> None:
    """A record in a tier counts as waiting, and its lateness begins when it is due."""
    first = write(bootstrap, "retry-1h", 0)
    commit(bootstrap, "test-tier", "retry-1h", first)
    settings = Settings(bootstrap_servers=bootstrap)
    (lag,) = measure(settings, ["test-tier"], 0.1)
    assert (lag.records, lag.seconds) == (1, 0.0)
    (late,) = measure(replace(settings, ladder="retry-60s retry-1h=1ms"), ["test-tier"], 0.1)
    assert late.seconds is not None
    assert 0 < late.seconds < 60


def test_the_rate_is_what_was_committed(bootstrap: str) -> None:
    """The rate is how far the commits moved in the interval."""
    first = write(bootstrap, topics.DEAD_LETTERS, *[0] * 50)
    commit(bootstrap, "test-rate", topics.DEAD_LETTERS, first)
    asked: list[float] = []

    def meanwhile(interval_s: float) -> None:
        asked.append(interval_s)
        commit(bootstrap, "test-rate", topics.DEAD_LETTERS, first + 50)

    since = time.monotonic()
    (lag,) = measure(Settings(bootstrap_servers=bootstrap), ["test-rate"], 1.5, meanwhile)
    assert asked == [1.5]
    assert lag.per_second >= 50 / (time.monotonic() - since)


def test_the_command(bootstrap: str, command: Command, tmp_path: Path) -> None:
    """Each stage is a row, found by the data directory of `up`; JSON has the topics too."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api.json").write_text(json.dumps({"url": "x", "key": "x", "bootstrap": bootstrap}))
    said = command("status", "--interval", "0.1")
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
        [stage, f"pipeline-{stage}"] for stage in STAGES
    ]
    rows = command("status", "--interval", "0.1", "-o", "json").json
    assert [row["stage"] for row in rows] == list(STAGES)
    assert {topic["topic"] for topic in rows[2]["topics"]} >= {"deliveries-replay", "retry-5s", "retry-6h"}


def test_events_that_will_be_lost_are_warned_of(
    bootstrap: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that nobody has read for half of its time is told of, beside the table and in the router's row."""
    topic = new_topic(Settings(bootstrap_servers=bootstrap), config={"retention.ms": "3600000"})
    monkeypatch.setattr(module, "unread_warning", partial(unread_warning, topic=topic))
    write(bootstrap, topic, HOUR_S * 3 / 4)
    told = f"warning: 1 records of {topic} are unread and older than 0.5 h"
    assert command("status", "--interval", "0.1", "--bootstrap-server", bootstrap).err.startswith(told)
    rows = command("status", "--interval", "0.1", "--bootstrap-server", bootstrap, "-o", "json").json
    assert [row["stage"] for row in rows if row["warning"]] == ["router"]


def test_no_broker_named(command: Command) -> None:
    """Without a broker anywhere the option and the variable are named."""
    assert "--bootstrap-server or PIPELINE_BOOTSTRAP_SERVERS" in command.refused("status")
