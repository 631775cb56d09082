"""What has ended stays so, whatever a replayer still writes that was stopped in the middle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.replay import OVER, Progress, Reached, State
from pipeline.kafka.endings import Endings
from pipeline.kafka.topics import REPLAY_PROGRESS
from tests.kafka.replaying import Broker, View
from tests.workers.parts import CODEC, NOW_MS

pytestmark = pytest.mark.replay
GOES_ON = Progress("rpl_1", State.RUNNING, (Reached(0, 5, 9),), events=5, time_ms=NOW_MS)
ENDED = Progress("rpl_1", State.DONE, (Reached(0, 9, 9),), events=9, ended_ms=NOW_MS, time_ms=NOW_MS)


class Topic:
    """`replay-progress`, as a replayer that is told of every change follows it."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.view = View(self.broker)
        self.endings = Endings(self.view, CODEC, self.broker)

    def has(self, value: bytes | None) -> list[bytes | None]:
        """Somebody has written this; what was written of it from here."""
        before = len(self.broker.written)
        self.view.rows.clear()
        if value is not None:
            self.view.rows[REPLAY_PROGRESS, "rpl_1"] = value
        for changed in self.view.watchers:
            changed(REPLAY_PROGRESS, "rpl_1")
        return [one.value for one in self.broker.written[before:]]


@pytest.fixture
async def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    monkeypatch.setattr(View, "get", lambda view, topic, key: view.rows.get((topic, key)))
    return Topic()


@pytest.mark.parametrize("state", OVER)
async def test_an_end_is_told_again(topic: Topic, state: State) -> None:
    """A progress of before comes after the end: the end is the newest record again, to the byte."""
    end = CODEC.encode_replay_progress(replace(ENDED, state=state))
    assert topic.has(end) == []
    assert topic.has(CODEC.encode_replay_progress(GOES_ON)) == [end]
    assert topic.has(end) == []


async def test_what_goes_on_is_left_alone(topic: Topic) -> None:
    """Before its end, and where nobody knows of one any more."""
    assert topic.has(CODEC.encode_replay_progress(GOES_ON)) == []
    assert topic.has(CODEC.encode_replay_progress(replace(GOES_ON, state=State.PAUSED))) == []
    assert topic.has(CODEC.encode_replay_progress(GOES_ON)) == []
    for what in (None, b"\x00\x00\x00\x00\x63another version's"):
        topic.has(CODEC.encode_replay_progress(ENDED))
        topic.has(what)
        assert topic.has(CODEC.encode_replay_progress(GOES_ON)) == []
