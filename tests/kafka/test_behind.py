"""A log that has lost what was committed to it is read again from where it is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import Unreachable
from pipeline.flow.history import Entry, Position
from pipeline.kafka import feed as module
from pipeline.kafka.behind import Behind
from pipeline.kafka.groups import offsets_of
from pipeline.settings import Settings
from tests.kafka.live import eventually, new_topic, produce, settings_of
from tests.kafka.working import Hands, numbered, running, until_committed
from tests.live_cluster import LiveCluster


@dataclass
class Held:
    """A log that has been read up to these positions, or does not answer."""

    held: dict[tuple[str, int], int] = field(default_factory=dict)
    down: bool = False

    def write(self, entries: Sequence[Entry], positions: Sequence[Position] = ()) -> None:  # noqa: ARG002 - the port's own
        """How far it is: its rows are of no interest here."""
        self.held |= {(one.topic, one.partition): one.offset for one in positions}

    def positions(self) -> Mapping[tuple[str, int], int]:
        """In the thread that polls."""
        if self.down:
            raise Unreachable("the database does not answer")
        return self.held


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    return settings_of(cluster, tmp_path)


@pytest.fixture
def topic(settings: Settings) -> str:
    """Ten records on each of three partitions."""
    name = new_topic(settings, 3)
    for partition in range(3):
        produce(settings, name, numbered(10), partition)
    return name


@pytest.fixture
def group(settings: Settings, topic: str) -> str:
    """A group that has read eight of each."""
    name = f"tests-behind-{uuid.uuid4()}"
    with offsets_of(settings, name) as offsets:
        offsets.commit({(topic, partition): 8 for partition in range(3)})
    return name


@pytest.fixture(autouse=True)
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMIT_S", 0.05)


async def test_the_log_says_where_to_go_on(settings: Settings, topic: str, group: str) -> None:
    """Where the log is behind its group it is read from there; where it is ahead, or does not know, from the offset."""
    log, hands = Held({(topic, 0): 5, (topic, 1): 9, ("other", 0): 1}), Hands(at_once=True)
    behind = Behind(settings, group, log)
    assert behind([(topic, 0), (topic, 1), (topic, 2)]) == {(topic, 0): 5}
    async with running(settings, group, topic, hands.processing, starts=behind):
        await eventually(lambda: len(hands.seen) == 9)
        assert sorted(hands.places) == [*((0, n) for n in range(5, 10)), (1, 8), (1, 9), (2, 8), (2, 9)]
        await until_committed(settings, group, topic, {0: 10, 1: 10, 2: 10})


async def test_a_copy_of_the_log_lacks_what_came_first_in_a_partition(
    settings: Settings, topic: str, group: str
) -> None:
    """A partition of which nothing had been recorded yet is known to the log too, from its first assignment on."""
    places, log = [(topic, partition) for partition in range(3)], Held({(topic, 0): 8})
    assert Behind(settings, group, log)(places) == {}
    copy = Held(dict(log.held))
    with offsets_of(settings, group) as offsets:
        offsets.commit(dict.fromkeys(places, 10))
    assert Behind(settings, group, copy)(places) == dict.fromkeys(places, 8)


async def test_a_log_that_does_not_answer_is_no_stop(settings: Settings, topic: str, group: str) -> None:
    """While the database is down the group goes on where it was."""
    hands = Hands(at_once=True)
    async with running(settings, group, topic, hands.processing, starts=Behind(settings, group, Held(down=True))):
        await eventually(lambda: len(hands.seen) == 6)
        await until_committed(settings, group, topic, {0: 10, 1: 10, 2: 10})
