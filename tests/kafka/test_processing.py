from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest

from pipeline.errors import Unreachable
from pipeline.kafka import processing as module
from pipeline.kafka.feed import Batch
from pipeline.kafka.processing import Deciding, Doing, Learning
from pipeline.kafka.tracker import Progress, Tracker
from pipeline.ports import Outgoing, Record
from pipeline.ports import Work as Handle
from tests.workers.parts import settled


@dataclass
class Knowing:
    """A codec that knows every schema, once the registry answers; notes what it was asked to learn."""

    down: int = 0
    asked: list[list[bytes | None]] = field(default_factory=list)

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Raises as often as it was told to."""
        self.asked.append(list(values))
        if self.down:
            self.down -= 1
            raise Unreachable("the schema registry does not answer")


@dataclass
class Reports:
    """A publisher that reports when the test says so; `gate` is the room that it has."""

    written: list[tuple[Outgoing, asyncio.Future[None]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, record: Outgoing) -> asyncio.Future[None]:
        """Kept for the test to report."""
        self.written.append((record, asyncio.get_running_loop().create_future()))
        return self.written[-1][1]

    async def room(self) -> None:
        """Wait for the gate."""
        await self.gate.wait()


@dataclass
class Work:
    """A batch of numbered records, the faults that were told, and what the world answers."""

    count: int
    progress: Progress = field(default_factory=Progress)
    faults: list[BaseException] = field(default_factory=list)
    publisher: Reports = field(default_factory=Reports)
    codec: Knowing = field(default_factory=Knowing)
    log: list[str] = field(default_factory=list)
    views: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.publisher.gate.set()

    def batch(self) -> Batch:
        """The records, seen and not started; the value says how many records each is to cause."""
        records = [Record("events", 0, n, None, b"%d" % n, (), 0) for n in range(self.count)]
        for record in records:
            self.progress.see(record.offset)
        return Batch([(record, self.progress) for record in records], {("subscriptions", 0): 7})

    def deciding(self) -> Deciding:
        """Record n causes n records."""

        def worker(record: Record) -> list[Outgoing]:
            self.log.append(f"decide {record.offset}")
            return [Outgoing("deliveries", None, b"") for _ in range(record.offset)]

        async def caught_up(batch: Batch) -> None:
            self.log.append(f"caught up {batch.ends['subscriptions', 0]}")
            self.views.append(b"view at %d" % batch.ends["subscriptions", 0])

        learn = Learning(cast("Any", self.codec), lambda: self.views)
        return Deciding(worker, cast("Any", self.publisher), learn, caught_up, self.faults.append)


@dataclass
class World:
    """What a waiting worker waits for."""

    under_way: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    handles: dict[int, Handle] = field(default_factory=dict)
    releasing: bool = True

    async def __call__(self, record: Record, work: Handle) -> None:
        """Until the test ends it."""
        self.under_way[record.offset] = asyncio.get_running_loop().create_future()
        self.handles[record.offset] = work
        await self.under_way[record.offset]
        if self.releasing:
            work.release()


def doing(work: Work, world: World, at_once: int = 2, urgent: Collection[int] = range(100)) -> Doing:
    learn = Learning(cast("Any", work.codec))
    publisher = cast("Any", work.publisher)
    return Doing(world, publisher, learn, work.faults.append, at_once, lambda record: record.offset in urgent)


async def test_a_record_is_finished_when_all_it_caused_is_durable() -> None:
    """A record that causes nothing is finished at once, one that causes several when the last is reported."""
    work = Work(3)
    await work.deciding()(work.batch())
    assert work.progress.floor == 1
    reports = [report for _, report in work.publisher.written]
    assert len(reports) == 3
    reports[2].set_result(None)
    reports[1].set_result(None)
    await settled()
    assert (work.progress.floor, list(work.progress.unfinished)) == (1, [1])
    reports[0].set_result(None)
    await settled()
    assert (work.progress.floor, work.progress.started, work.faults) == (3, 0, [])


async def test_the_view_is_new_enough_before_anything_is_decided() -> None:
    """The view is where the batch's ends are, then its schemas are learned too, before a record is looked at."""
    work = Work(2)
    await work.deciding()(work.batch())
    assert work.codec.asked == [[b"0", b"1", b"view at 7"]]
    assert work.log == ["caught up 7", "decide 0", "decide 1"]


async def test_a_refused_report_is_a_fault() -> None:
    """A record whose effect was not written is never finished, and the fault is told."""
    work = Work(3)
    await work.deciding()(work.batch())
    for number in (0, 1):
        work.publisher.written[number][1].set_exception(OSError(f"refused {number}"))
    work.publisher.written[2][1].set_result(None)
    await settled()
    assert [str(fault) for fault in work.faults] == ["refused 0", "refused 1"]
    assert list(work.progress.unfinished) == [1, 2]


async def test_nothing_is_decided_without_room_or_after_closing() -> None:
    """While too much is unreported nothing is decided; of a partition that was given up nothing is started."""
    work = Work(2)
    work.publisher.gate.clear()
    running = asyncio.create_task(cast("Any", work.deciding()(work.batch())))
    await settled()
    assert work.log == ["caught up 7"]
    work.progress.close()
    work.publisher.gate.set()
    await running
    assert "decide 1" not in work.log


async def test_a_registry_that_is_down_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the registry is away nothing is decided and `waiting` says why; then it goes on by itself."""
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    work = Work(1, codec=Knowing(down=3))
    deciding = work.deciding()
    running = asyncio.create_task(cast("Any", deciding(work.batch())))
    await settled()
    assert deciding.learn.waiting == "the schema registry does not answer"
    assert "decide 0" not in work.log
    await running
    learn: Learning = deciding.learn
    assert (learn.waiting or "", len(work.codec.asked)) == ("", 4)


async def test_so_many_are_under_way_together() -> None:
    """Up to `at_once` records wait for the world at the same time; the next starts when one has ended."""
    work, world = Work(4), World()
    running = asyncio.create_task(cast("Any", doing(work, world)(work.batch())))
    await settled()
    assert list(world.under_way) == [0, 1]
    world.under_way[1].set_result(None)
    await settled()
    assert list(world.under_way) == [0, 1, 2]
    assert not running.done()
    assert (work.progress.floor, work.progress.started) == (0, 2)
    world.under_way[0].set_result(None)
    await running
    await settled()
    assert list(world.under_way) == [0, 1, 2, 3]
    for offset in (2, 3):
        world.under_way[offset].set_result(None)
    await settled()
    assert (work.progress.floor, work.progress.started) == (4, 0)


async def test_an_answer_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that only waits for the broker no longer counts as one that waits for the world, up to a bound."""
    monkeypatch.setattr(module, "UNFINISHED", 3)
    work, world = Work(5), World()
    running = asyncio.create_task(cast("Any", doing(work, world, 1)(work.batch())))
    for offset in range(3):
        await settled()
        assert list(world.under_way) == list(range(offset + 1))
        world.handles[offset].answered()
        world.handles[offset].answered()
    await settled()
    assert len(world.under_way) == 3
    assert work.progress.floor == 0
    world.under_way[1].set_result(None)
    await settled()
    assert list(world.under_way) == [0, 1, 2, 3]
    for offset in (3, 0, 2):
        world.under_way[offset].set_result(None)
    await running
    await settled()
    world.under_way[4].set_result(None)
    await settled()
    assert (work.progress.floor, work.progress.started) == (5, 0)


async def test_the_urgent_goes_before_the_rest() -> None:
    """What is urgent begins at once, also what is read later; the rest after it, a few in a turn, in its order."""
    work, world = Work(6), World()
    stage = doing(work, world, at_once=10, urgent=(1, 5))
    *first, last = work.batch()
    await stage(Batch(first, {}))
    await stage(Batch([last], {}))
    await settled()
    assert list(world.under_way) == [1, 5, 0, 2, 3, 4]
    for end in world.under_way.values():
        end.set_result(None)
    await settled()
    assert (work.progress.floor, work.progress.started, work.faults) == (6, 0, [])


async def test_the_rest_begins_a_few_in_a_turn() -> None:
    """Between two portions of the rest the event loop has its turn."""
    work, world = Work(6), World()
    await doing(work, world, at_once=10, urgent=())(work.batch())
    assert work.progress.started == 0
    begun = []
    for _ in range(5):
        await asyncio.sleep(0)
        begun.append(work.progress.started)
    assert begun[-1] == 6
    assert all(now - before <= 2 for before, now in pairwise([0, *begun]))


async def test_only_so_much_of_the_rest_is_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage is held back while more than that waits behind others."""
    monkeypatch.setattr(module, "_LATER", 1)
    work, world = Work(4), World()
    running = asyncio.create_task(cast("Any", doing(work, world, at_once=2, urgent=(3,))(work.batch())))
    await settled()
    assert list(world.under_way) == [3, 0]
    assert not running.done()
    world.under_way[3].set_result(None)
    await running
    await settled()
    assert list(world.under_way) == [3, 0, 1]


async def test_the_rest_of_a_closed_partition_is_left_to_its_next_owner() -> None:
    """What still waits behind others when its partition is given up does not begin."""
    work, world = Work(3), World()
    stage = doing(work, world, at_once=10, urgent=(0,))
    await stage(work.batch())
    work.progress.close()
    await settled()
    assert list(world.under_way) == [0]
    assert list(work.progress.unfinished) == [0, 1, 2]


async def test_what_stops_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest begins beside the stage: a fault there must not end in silence, for nothing after it would begin."""
    work, world = Work(2), World()
    await doing(work, world, urgent=())(work.batch())

    async def no_room() -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(work.publisher, "room", no_room)
    await settled()
    assert ([str(fault) for fault in work.faults], world.under_way) == (["ours"], {})


async def test_an_exception_is_no_end() -> None:
    """A record whose worker raises is not finished; the fault is told and its place is free for others."""
    work, world = Work(3), World()
    running = asyncio.create_task(cast("Any", doing(work, world, 1)(work.batch())))
    await settled()
    world.under_way[0].set_exception(RuntimeError("ours"))
    await settled()
    assert [str(fault) for fault in work.faults] == ["ours"]
    assert list(work.progress.unfinished) == [0, 1, 2]
    for offset in (1, 2):
        world.under_way[offset].set_result(None)
        await settled()
    await running
    assert (work.progress.floor, work.progress.next) == (0, 3)


async def test_a_closed_partition_takes_no_place() -> None:
    """Records of a partition that was given up are passed by, and take no place from others."""
    work, world = Work(5), World()
    batch = work.batch()
    work.progress.close()
    await asyncio.wait_for(doing(work, world, 1)(batch), 5)
    assert (world.under_way, work.progress.floor) == ({}, 0)


async def test_a_record_can_be_released_before_its_end() -> None:
    """A released record's offset is passed at once, and it counts as in flight until its work has ended."""
    work, world = Work(2), World()
    running = asyncio.create_task(cast("Any", doing(work, world)(work.batch())))
    await settled()
    for _ in range(2):
        world.handles[0].release()
    assert (work.progress.floor, work.progress.started) == (1, 2)
    world.under_way[0].set_result(None)
    await settled()
    assert (work.progress.floor, work.progress.started) == (1, 1)
    world.under_way[1].set_result(None)
    await running
    await settled()
    assert (work.progress.floor, work.progress.started) == (2, 0)


async def test_a_record_that_was_not_released_waits_to_be_read_again() -> None:
    """Where the worker leaves a record alone its offset is never passed, and it can be started again."""
    work, world = Work(2), World(releasing=False)
    running = asyncio.create_task(cast("Any", doing(work, world)(work.batch())))
    await settled()
    world.under_way[0].set_result(None)
    await running
    await settled()
    assert (work.progress.floor, work.progress.started) == (0, 1)
    assert work.progress.start(0)


async def test_a_record_knows_of_its_partition() -> None:
    """The worker sees at once that a partition was given up, or lost."""
    work, world = Work(1), World()
    await doing(work, world)(work.batch())
    await settled()
    handle = world.handles[0]
    assert (handle.open, handle.lost) == (True, False)
    work.progress.close()
    assert (handle.open, handle.lost) == (False, False)
    tracker = Tracker({("events", 0): work.progress})
    tracker.let_go(("events", 0))
    assert (handle.open, handle.lost) == (False, True)
    world.under_way[0].set_result(None)
    await settled()


async def test_after_a_fault_everything_counts_as_lost() -> None:
    """A process that must end, such as a fenced one, starts nothing more and writes no effects."""
    work, world = Work(1), World()
    await doing(work, world)(work.batch())
    await settled()
    Tracker({("events", 0): work.progress}).lose()
    assert (world.handles[0].open, world.handles[0].lost) == (False, True)
    world.under_way[0].set_result(None)
    await settled()
