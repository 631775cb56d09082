"""What replays wait for, on a broker: the forwarder's backlog, and how far the recorder is."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from pipeline.kafka import standing as module
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.standing import MOST_WAITING, Backlog, Ends, Recorded
from tests.kafka.live import eventually, new_topic, produce, settings_of
from tests.live_cluster import LiveCluster

pytestmark = [pytest.mark.kafka, pytest.mark.replay]


async def test_a_full_backlog_is_told_and_ends(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """More waits than may: nothing is to be added, until the group's commit says that there is room again."""
    settings, group = settings_of(cluster), f"test-{uuid.uuid4().hex}"
    topic = new_topic(settings, 2)
    monkeypatch.setattr(module, "DELIVERIES_REPLAY", topic)
    monkeypatch.setattr(module, "DELAY_GROUP", group)
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    produce(settings, topic, [(None, b"x")] * (MOST_WAITING - 1), partition=0)
    produce(settings, topic, [(None, b"x")] * 2, partition=1)
    busy = True
    backlog = Backlog(settings, Ends(settings), lambda: busy)
    assert not backlog.full
    running = asyncio.create_task(backlog.run())
    await eventually(lambda: backlog.waiting == MOST_WAITING + 1)
    assert backlog.full == f"{MOST_WAITING + 1} deliveries of replays wait until the delay role lets them in"
    with offsets_of(settings, group) as offsets:
        offsets.commit({(topic, 0): 100})
    await eventually(lambda: backlog.waiting == MOST_WAITING - 99)
    assert not backlog.full
    busy = False
    await eventually(lambda: backlog.waiting == 0)
    running.cancel()


async def test_the_log_is_new_enough_when_the_recorder_has_committed(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the topics hold when it is first asked must be in; what comes later is not waited for."""
    settings, group = settings_of(cluster), f"test-{uuid.uuid4().hex}"
    topic, empty = new_topic(settings), new_topic(settings)
    monkeypatch.setattr(module, "_RECORDER", group)
    monkeypatch.setattr(module, "DELIVERIES_REPLAY", empty)
    produce(settings, topic, [(None, b"x")] * 5)
    recorded = Recorded(settings, Ends(settings), (topic, empty))
    assert "lacks the last 5 records" in (await recorded() or "")
    produce(settings, topic, [(None, b"x")] * 5)
    with offsets_of(settings, group) as offsets:
        offsets.commit({(topic, 0): 4})
    assert "lacks the last 1 records" in (await recorded() or "")
    with offsets_of(settings, group) as offsets:
        offsets.commit({(topic, 0): 5})
    assert await recorded() is None


async def test_what_another_replay_has_written_comes_first(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits to be let in the log cannot know of it: two recoveries in a row would send it twice."""
    settings, recorder, delay = settings_of(cluster), f"test-{uuid.uuid4().hex}", f"test-{uuid.uuid4().hex}"
    replayed, topic = new_topic(settings), new_topic(settings)
    monkeypatch.setattr(module, "_RECORDER", recorder)
    monkeypatch.setattr(module, "DELAY_GROUP", delay)
    monkeypatch.setattr(module, "DELIVERIES_REPLAY", replayed)
    produce(settings, replayed, [(None, b"x")] * 3)
    recorded = Recorded(settings, Ends(settings), (topic,))
    assert await recorded() == "3 deliveries of replays wait until the delay role lets them in"
    produce(settings, topic, [(None, b"x")] * 3)
    with offsets_of(settings, delay) as offsets:
        offsets.commit({(replayed, 0): 3})
    assert "lacks the last 3 records" in (await recorded() or ""), "those that have been let in meanwhile, too"
    with offsets_of(settings, recorder) as offsets:
        offsets.commit({(topic, 0): 3})
    assert await recorded() is None
