"""How the recorder works through batches: each is one transaction, and finished when that is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.errors import Unreachable
from pipeline.flow.event import Event
from pipeline.flow.history import Entry, EventSeen, Position
from pipeline.kafka import processing as module
from pipeline.kafka.feed import Batch
from pipeline.kafka.metrics import Missed
from pipeline.kafka.processing import Learning, Recording
from pipeline.kafka.tracker import Progress
from pipeline.ports import Record
from pipeline.workers.recorder import Projection
from tests.kafka.live import eventually
from tests.workers.parts import CODEC, read


@dataclass
class Written:
    """A log that notes what it is given; while `down` it does not answer, while `gate` is closed it takes its time."""

    down: bool = False
    fault: Exception | None = None
    tries: int = 0
    batches: list[tuple[list[Entry], list[Position]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def write(self, entries: Sequence[Entry], positions: Sequence[Position] = ()) -> None:
        """In the caller's thread."""
        self.tries += 1
        self.entered.set()
        assert self.gate.wait(10)
        if self.fault:
            raise self.fault
        if self.down:
            raise Unreachable("the database does not answer")
        self.batches.append((list(entries), list(positions)))

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Nobody asks."""
        return {}


@dataclass
class Knowing:
    """The registry's side of a codec: notes what it was asked to learn, in order."""

    asked: list[list[bytes | None]] = field(default_factory=list)

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Nothing is new."""
        self.asked.append(list(values))


@dataclass
class Records:
    """Two partitions of `events`, a log, and the recording under test."""

    log: Written = field(default_factory=Written)
    partitions: tuple[Progress, Progress] = field(default_factory=lambda: (Progress(), Progress()))
    missed: Missed = field(default_factory=Missed)
    knowing: Knowing = field(default_factory=Knowing)

    def __post_init__(self) -> None:
        self.log.gate.set()
        learn = Learning(cast("Any", self.knowing))
        self.recording = Recording(Projection(CODEC, self.missed), self.log, learn)

    def batch(self, *places: tuple[int, int], bad: Sequence[int] = ()) -> Batch:
        """Records at these places (partition, offset), seen and not started."""
        records = []
        for number, offset in places:
            value = b"poison" if offset in bad else CODEC.encode_event(Event(f"e{offset}", "acme", "t", 1, "{}"))
            self.partitions[number].see(offset)
            records.append((Record("events", number, offset, None, value, (), 7), self.partitions[number]))
        return Batch(records, {})

    async def waits(self) -> asyncio.Task[None]:
        """A batch of both partitions whose log is down, once it waits."""
        self.log.down = True
        task = asyncio.create_task(self.recording(self.batch((0, 4), (1, 9))))
        await eventually(lambda: self.recording.waiting is not None)
        return task


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.001)


async def test_a_batch_is_one_transaction() -> None:
    """All of a batch is written together, with how far each partition has been read."""
    records = Records()
    await records.recording(records.batch((0, 4), (1, 9), (0, 6)))
    ((entries, positions),) = records.log.batches
    assert [cast("EventSeen", entry).id for entry in entries] == ["e4", "e9", "e6"]
    assert positions == [Position("events", 0, 7), Position("events", 1, 10)]
    assert [progress.floor for progress in records.partitions] == [7, 10]
    assert records.recording.recorded == 3


async def test_nothing_is_finished_before_its_transaction() -> None:
    """While the log has not taken a batch its records are in flight, and the event loop is free."""
    records = Records()
    records.log.gate.clear()
    task = asyncio.create_task(records.recording(records.batch((0, 4), (0, 5))))
    await asyncio.to_thread(records.log.entered.wait, 10)
    assert (records.partitions[0].floor, records.partitions[0].started) == (4, 2)
    records.log.gate.set()
    await task
    assert (records.partitions[0].floor, records.partitions[0].started) == (6, 0)


async def test_a_bad_record_is_counted_and_passed() -> None:
    """What cannot be read is in no transaction; its offset is passed with the others, and it is counted."""
    records = Records()
    await records.recording(records.batch((0, 4), (0, 5), bad=[5]))
    assert [len(entries) for entries, _ in records.log.batches] == [1]
    assert records.partitions[0].floor == 6
    assert (records.missed.count, records.recording.recorded) == (1, 1)


async def test_a_log_that_is_down_is_waited_for() -> None:
    """While the database does not answer the batch waits, and says why; when it is back all is written."""
    records = Records()
    task = await records.waits()
    assert "does not answer" in (records.recording.waiting or "")
    assert [progress.floor for progress in records.partitions] == [4, 9]
    records.log.down = False
    await task
    assert [len(entries) for entries, _ in records.log.batches] == [2]
    assert records.recording.waiting is None
    assert [progress.floor for progress in records.partitions] == [5, 10]


async def test_a_log_that_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that holds a batch up without a word is told of while it does: the stage does not stand still."""
    monkeypatch.setattr(module, "_LATE_S", 0.01)
    records = Records()
    records.log.gate.clear()
    task = asyncio.create_task(records.recording(records.batch((0, 4))))
    await eventually(lambda: "has not taken a batch" in (records.recording.waiting or ""))
    records.log.gate.set()
    await task
    assert records.recording.waiting is None
    assert records.log.tries == 1


async def test_a_partition_that_is_given_up_is_not_waited_for() -> None:
    """What waits for the database leaves with its partition, unfinished and not in flight; the rest is written."""
    records = Records()
    given_up, kept = records.partitions
    task = await records.waits()
    given_up.close()
    await eventually(lambda: not given_up.started)
    assert (given_up.floor, given_up.waits_from) == (4, 4)
    records.log.down = False
    await task
    ((entries, positions),) = records.log.batches
    assert [cast("EventSeen", entry).id for entry in entries] == ["e9"]
    assert positions == [Position("events", 1, 10)]
    assert (given_up.floor, kept.floor) == (4, 10)


async def test_when_all_is_given_up_nobody_waits() -> None:
    """A stage that is told to stop while the database is down stops: nothing is in flight, nothing is finished."""
    records = Records()
    task = await records.waits()
    for progress in records.partitions:
        progress.close()
    await task
    assert [progress.started for progress in records.partitions] == [0, 0]
    assert [progress.floor for progress in records.partitions] == [4, 9]
    assert records.recording.waiting is None


async def test_a_fault_of_ours_is_no_outage() -> None:
    """An error that is not the database's absence is raised, so that the process ends, and nothing is finished."""
    records = Records()
    records.log.fault = ValueError("no such column")
    with pytest.raises(ValueError, match="no such column"):
        await records.recording(records.batch((0, 4)))
    assert (records.log.tries, records.partitions[0].floor) == (1, 4)


async def test_what_was_closed_before_is_not_started() -> None:
    """Records of a partition that has been closed are the next owner's."""
    records = Records()
    batch = records.batch((0, 4), (1, 9))
    records.partitions[0].close()
    await records.recording(batch)
    assert [len(entries) for entries, _ in records.log.batches] == [1]
    assert [progress.floor for progress in records.partitions] == [4, 10]


async def test_schemas_are_learnt_before() -> None:
    """The registry is asked for what the records hold, then for what is inside of the dead letters."""
    records, batch = Records(), Batch([(read("retry-dlq", b"?"), Progress())], {})
    batch.records[0][1].see(5)
    await records.recording(batch)
    assert records.knowing.asked == [[b"?"], [None]]
