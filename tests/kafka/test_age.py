from __future__ import annotations

import asyncio
import uuid

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.errors import Unreachable
from pipeline.kafka import age, topics
from pipeline.kafka.age import Unread, unread_warning
from pipeline.settings import Settings
from tests.kafka.live import eventually, new_topic, settings_of
from tests.kafka.test_trimming import DAY, FOREVER, HOUR_MS, commit, now_ms, write
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def client(settings: Settings) -> AdminClient:
    return topics.admin(settings)


def test_half_of_the_time_is_passed(settings: Settings, client: AdminClient) -> None:
    """A warning counts the unread records that are older than half of the retention, and only those."""
    topic, group = new_topic(settings, 2, DAY), f"tests-router-{uuid.uuid4()}"
    write(settings, topic, 20, 14, 13, 11, 1)
    commit(settings, group, topic, 1)
    commit(settings, group, topic, 0, partition=1)
    said = unread_warning(settings, client, now_ms(), topic, group) or ""
    assert said.startswith(f"2 records of {topic} are unread and older than 12 h")
    commit(settings, group, topic, 3)
    assert unread_warning(settings, client, now_ms(), topic, group) is None
    later = unread_warning(settings, client, now_ms() + 12 * HOUR_MS, topic, group) or ""
    assert later.startswith("2 records")


def test_what_is_read_is_no_worry(settings: Settings, client: AdminClient) -> None:
    """However old, what the group has committed is not warned of."""
    topic, group = new_topic(settings, 1, DAY), f"tests-router-{uuid.uuid4()}"
    write(settings, topic, 23, 23)
    commit(settings, group, topic, 2)
    assert unread_warning(settings, client, now_ms(), topic, group) is None


def test_a_group_that_has_read_nothing_is_warned_of(settings: Settings, client: AdminClient) -> None:
    """Without a commit everything is unread."""
    topic = new_topic(settings, 1, DAY)
    write(settings, topic, 23)
    assert (unread_warning(settings, client, now_ms(), topic, f"tests-{uuid.uuid4()}") or "").startswith("1 records")


def test_what_is_kept_for_ever_is_no_worry(settings: Settings, client: AdminClient) -> None:
    """Without a retention nothing is ever lost by age."""
    topic = new_topic(settings, 1, FOREVER)
    write(settings, topic, 1_000)
    assert unread_warning(settings, client, now_ms(), topic, f"tests-{uuid.uuid4()}") is None


async def test_it_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning comes and goes with what Kafka tells, and stands while Kafka tells nothing."""
    monkeypatch.setattr(age, "_EVERY_S", 0.001)
    answers: list[str | Unreachable | None] = ["half", Unreachable("no broker"), "more", None]
    seen = list[str | None]()

    def look(*_: object) -> str | None:
        seen.append(unread.warning)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    monkeypatch.setattr(age, "unread_warning", look)
    unread = Unread(Settings(bootstrap_servers="127.0.0.1:1"))
    running = asyncio.create_task(unread.run())
    await eventually(lambda: len(seen) > 4)
    assert seen[:5] == [None, "half", "half", "more", None]
    running.cancel()
