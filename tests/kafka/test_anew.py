"""A group that begins again where its topics begin."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import ExitStack, closing

import pytest
from confluent_kafka import Consumer

from pipeline.errors import UsageError
from pipeline.kafka import starts
from pipeline.kafka.groups import offsets_of
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, committed, new_topic, produce, settings_of
from tests.kafka.working import numbered
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


@pytest.fixture
def topic(settings: Settings) -> str:
    name = new_topic(settings, 2)
    produce(settings, name, numbered(5))
    return name


@pytest.fixture
def group(settings: Settings, topic: str) -> str:
    """A group that has read it all."""
    name = f"tests-anew-{uuid.uuid4()}"
    with offsets_of(settings, name) as offsets:
        offsets.commit({(topic, 0): 5, (topic, 1): 0})
    return name


def joined(settings: Settings, topic: str, group: str) -> Consumer:
    """A member of the group, which the caller closes."""
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": group})
    consumer.subscribe([topic])
    until = time.monotonic() + PATIENCE_S
    while not consumer.assignment():
        assert time.monotonic() < until
        consumer.poll(0.05)
    return consumer


def test_all_is_read_again(settings: Settings, topic: str, group: str) -> None:
    """The group stands where the topic begins, before it is forgotten what was made of it and after."""
    seen: list[dict[int, int]] = []
    starts.anew(settings, group, (topic,), lambda: seen.append(committed(settings, group, topic)))
    assert seen == [{0: 0, 1: 0}]
    assert committed(settings, group, topic) == {0: 0, 1: 0}


def test_a_group_at_work_is_left_alone(settings: Settings, topic: str, group: str) -> None:
    """While the group has members nothing is forgotten and no offset moves."""
    forgotten: list[str] = []
    with closing(joined(settings, topic, group)) as member:
        with pytest.raises(UsageError, match=r"members at work \(1\): stop them"):
            starts.anew(settings, group, (topic,), lambda: forgotten.append("all"), patience_s=0)
        assert member.assignment()
    assert forgotten == []
    assert committed(settings, group, topic) == {0: 5, 1: 0}


def test_members_that_leave_are_waited_for(settings: Settings, topic: str, group: str) -> None:
    """One that has just been stopped may count for a while: it is waited for."""
    leaving = threading.Timer(0.5, joined(settings, topic, group).close)
    leaving.start()
    starts.anew(settings, group, (topic,), lambda: None, patience_s=PATIENCE_S)
    leaving.join()
    assert committed(settings, group, topic) == {0: 0, 1: 0}


def test_who_begins_meanwhile_is_found_out(settings: Settings, topic: str, group: str) -> None:
    """A member that joins while it is being forgotten has read what is no longer there: that is refused."""
    with ExitStack() as stack:

        def begin() -> None:
            stack.callback(joined(settings, topic, group).close)

        with pytest.raises(UsageError, match="members at work"):
            starts.anew(settings, group, (topic,), begin)
