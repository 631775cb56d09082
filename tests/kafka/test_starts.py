from __future__ import annotations

import datetime as dt
import time
import uuid

import pytest

from pipeline.errors import SettingsError, Unreachable, UsageError
from pipeline.kafka import starts, topics
from pipeline.settings import Settings
from tests.kafka.live import committed, consume, new_topic, produce, settings_of
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def group() -> str:
    return f"tests-starts-{uuid.uuid4()}"


@pytest.fixture
def topic(settings: Settings) -> str:
    """Three records in partition 0, none in partition 1."""
    name = new_topic(settings, 2, {"message.timestamp.type": "LogAppendTime"})
    for number in range(3):
        produce(settings, name, [(None, b"%d" % number)])
    return name


def test_a_group_without_offsets_is_refused(settings: Settings, group: str, topic: str) -> None:
    """A group that has no place is refused with both remedies, and gets none."""
    with pytest.raises(UsageError, match=r"topics create.*--from earliest\|latest\|TIME") as caught:
        starts.ensure(settings, group, (topic,))
    assert f"{topic}[0]" in str(caught.value)
    assert committed(settings, group, topic) == {}


@pytest.mark.parametrize(("start", "places"), [("earliest", {0: 0, 1: 0}), ("latest", {0: 3, 1: 0})])
def test_a_group_starts_where_it_is_told(
    settings: Settings, group: str, topic: str, start: str, places: dict[int, int]
) -> None:
    """`earliest` and `latest` are the ends of each partition's log; the next start needs nothing said."""
    starts.ensure(settings, group, (topic,), start)
    assert committed(settings, group, topic) == places
    starts.ensure(settings, group, (topic,))


def test_a_group_starts_at_a_time(settings: Settings, group: str, topic: str) -> None:
    """At a time: the first record from then on; where there is none, the end."""
    second = consume(settings, topic, 3)[1].timestamp()[1]
    starts.ensure(settings, group, (topic,), dt.datetime.fromtimestamp(second / 1000, dt.UTC).isoformat())
    assert committed(settings, group, topic) == {0: 1, 1: 0}
    later, zone = f"{group}-later", dt.timezone(dt.timedelta(hours=-11))
    starts.ensure(settings, later, (topic,), dt.datetime.fromtimestamp(time.time() + 60, zone).isoformat())
    assert committed(settings, later, topic) == {0: 3, 1: 0}


@pytest.mark.parametrize("start", ["soon", "", "5", "2026-13-01"])
def test_another_start_is_refused(settings: Settings, group: str, topic: str, start: str) -> None:
    """What is no time is refused, and nothing is set."""
    with pytest.raises(SettingsError, match="--from"):
        starts.ensure(settings, group, (topic,), start)
    assert committed(settings, group, topic) == {}


def test_only_what_is_missing_is_set(settings: Settings, group: str, topic: str) -> None:
    """A place that a group has is not moved, whatever is said."""
    other = new_topic(settings)
    starts.ensure(settings, group, (topic,), "earliest")
    starts.ensure(settings, group, (topic, other), "latest")
    assert committed(settings, group, topic) == {0: 0, 1: 0}
    assert committed(settings, group, other) == {0: 0}


def test_a_missing_topic_is_named(settings: Settings, group: str) -> None:
    """A topic that is not there is refused with the command that makes it."""
    said = r"topic never-made is not there.*pipeline topics create"
    with pytest.raises(UsageError, match=said):
        starts.ensure(settings, group, ("never-made",), "earliest")
    with pytest.raises(UsageError, match=said):
        starts.require(settings, ("never-made",))


def test_no_broker_is_told(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    """Without a broker there is an error, not an endless wait."""
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.3)
    with pytest.raises(Unreachable, match="no Kafka broker answers"):
        starts.ensure(Settings(bootstrap_servers="127.0.0.1:1"), group, ("any",))
