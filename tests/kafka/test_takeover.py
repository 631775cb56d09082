from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.flow.deliver import Done, Retry
from pipeline.kafka import takeover as module
from pipeline.kafka.intake import Batch
from pipeline.kafka.takeover import TakingOver
from pipeline.kafka.tracker import Partition, Progress, Tracker
from pipeline.ports import Record
from pipeline.workers.repeats import Made, Repeats, Round
from tests.workers.parts import settled


@dataclass
class Kept:
    """A log of attempts in memory, one for each partition; `gate` holds every reading up."""

    attempts: dict[int, list[tuple[Round, Made]]] = field(default_factory=dict)
    begins: int = 0
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    broken: Exception | None = None

    async def ends(self, number: int) -> tuple[int, int]:
        """Where the partition begins and ends."""
        self.asked += 1
        return self.begins, len(self.attempts.get(number, ()))

    async def read(self, number: int, since: int, until: int) -> list[tuple[Round, Made]]:
        """What lies between, when the gate is open."""
        self.reads.append((number, since, until))
        await self.gate.wait()
        if self.broken:
            raise self.broken
        return self.attempts[number][since:until]


@dataclass
class Taking:
    """A taking over before a stage that only notes what it gets."""

    log: Kept
    holds: int = 1
    repeats: Repeats = field(default_factory=Repeats)
    worked: list[tuple[int, int]] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    tracker: Tracker = field(default_factory=Tracker)

    def __post_init__(self) -> None:
        self.taking = TakingOver(cast("Any", self.log), self.repeats, lambda: self.holds)
        self._take = self.taking.before(self._work, self.faults.append)

    async def _work(self, batch: Batch) -> None:
        self.worked += [
            (record.partition, record.offset) for record, progress in batch if progress.start(record.offset)
        ]

    async def __call__(self, *places: tuple[int, int]) -> None:
        """A batch of these records comes, of partitions that this process holds."""
        await self._take(Batch([self._seen(*place) for place in places], {}))
        await settled()

    def _seen(self, number: int, offset: int) -> tuple[Record, Progress]:
        partition: Partition = ("deliveries", number)
        progress = self.tracker.partitions.get(partition) or self.tracker.take(partition)
        progress.see(offset)
        return Record("deliveries", number, offset, None, b"", (), 0), progress

    def known(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbered deliveries of which an attempt is known."""
        return [number for number in numbers if self.repeats._last.get((f"msg_{number}", ""))]


def attempts(count: int, first: int = 0) -> list[tuple[Round, Made]]:
    """One attempt of each numbered delivery; the delivery's number is the offset that it answers."""
    return [((f"msg_{number}", ""), Made(1, Done(), 0, number)) for number in range(first, first + count)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Small steps and a small reach; the gate is open."""
    monkeypatch.setattr(module, "STEP", 5)
    monkeypatch.setattr(module, "REACH", 10)
    kept = Kept()
    kept.gate.set()
    return kept


async def test_nothing_is_started_before_the_log_is_read(log: Kept) -> None:
    """Records of a partition that came are held back until its attempts are known, then started in their order."""
    log.attempts[0], taking = attempts(3), Taking(log)
    log.gate.clear()
    await taking((0, 3), (0, 4))
    await taking((0, 5))
    assert taking.worked == []
    assert taking.taking.waiting == "taking over partitions 0"
    log.gate.set()
    await settled()
    assert taking.worked == [(0, 3), (0, 4), (0, 5)]
    assert taking.known(range(4)) == [0, 1, 2]
    assert not taking.taking.waiting
    await taking((0, 6))
    assert taking.worked[-1] == (0, 6)


async def test_other_partitions_go_on(log: Kept) -> None:
    """While one partition is taken over, what comes of those that were taken over before is started."""
    log.attempts, taking = {0: attempts(1), 1: attempts(1)}, Taking(log)
    await taking((0, 1))
    log.gate.clear()
    await taking((1, 1), (0, 2), (1, 2), (0, 3))
    assert taking.worked == [(0, 1), (0, 2), (0, 3)]
    log.gate.set()
    await settled()
    assert taking.worked[3:] == [(1, 1), (1, 2)]


async def test_an_empty_log_is_not_read(log: Kept) -> None:
    """Where nothing was attempted yet, work begins at once."""
    taking = Taking(log)
    await taking((0, 0))
    assert (taking.worked, log.reads) == ([(0, 0)], [])


async def test_it_reads_back_as_far_as_it_must(log: Kept) -> None:
    """Steps go back until a whole one answers only deliveries farther below the first one than the reach."""
    log.attempts[0], taking = attempts(100), Taking(log)
    await taking((0, 100))
    assert log.reads == [(0, 95, 100), (0, 90, 95), (0, 85, 90)]
    assert taking.known(range(100)) == list(range(85, 100))


async def test_one_late_attempt_makes_it_read_on(log: Kept) -> None:
    """A step that answers one delivery within reach is not the last one, however old the others are."""
    log.attempts[0], taking = attempts(100), Taking(log)
    log.attempts[0][86] = ("late", ""), Made(1, Done(), 0, 99)
    await taking((0, 100))
    assert log.reads[-1] == (0, 80, 85)


async def test_it_ends_where_the_log_begins(log: Kept) -> None:
    """A log that was trimmed is read to its first record."""
    log.attempts[0], log.begins, taking = attempts(100), 92, Taking(log)
    await taking((0, 100))
    assert log.reads == [(0, 95, 100), (0, 92, 95)]


async def test_it_reads_no_more_than_it_can_remember(log: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions share what a process remembers; the attempts nearest to the end are read."""
    monkeypatch.setattr(module, "KEYS", 24)
    monkeypatch.setattr(module, "REACH", 1_000)
    log.attempts[0], taking = attempts(100), Taking(log, holds=3)
    await taking((0, 100))
    assert log.reads == [(0, 95, 100), (0, 92, 95)]
    assert taking.worked == [(0, 100)]


async def test_the_newest_attempt_counts(log: Kept) -> None:
    """Attempts are learnt in the order of their writing: what is owed is owed by a round's last one."""
    log.attempts[0] = [(("msg_1", ""), Made(number, Retry(number), number, number)) for number in range(1, 9)]
    taking = Taking(log)
    await taking((0, 9))
    assert taking.repeats._owed == {("msg_1", ""): Made(8, Retry(8), 8, 8)}


async def test_the_newest_are_remembered(log: Kept) -> None:
    """Where memory does not last for all that was read, the oldest attempts are forgotten."""
    log.attempts[0], taking = attempts(10), Taking(log, repeats=Repeats(keys=6))
    await taking((0, 10))
    assert taking.known(range(10)) == [4, 5, 6, 7, 8, 9]


async def test_what_is_written_meanwhile_is_read_too(log: Kept) -> None:
    """An attempt that comes while the log is read back is known before anything is started."""
    log.attempts[0], taking = attempts(3), Taking(log)
    log.gate.clear()
    await taking((0, 3))
    log.attempts[0] += attempts(2, 3)
    log.gate.set()
    await settled()
    assert log.reads == [(0, 0, 3), (0, 3, 5)]
    assert taking.known(range(5)) == [0, 1, 2, 3, 4]


async def test_a_partition_that_comes_back_is_taken_over_again(log: Kept) -> None:
    """What another process attempted in between is read before the partition is worked on again."""
    log.attempts[0], taking = attempts(3), Taking(log)
    await taking((0, 3))
    taking.tracker.let_go(("deliveries", 0))
    log.attempts[0] += attempts(4, 3)
    await taking((0, 7))
    assert log.reads[1:] == [(0, 2, 7), (0, 0, 2)]
    assert taking.worked == [(0, 3), (0, 7)]


async def test_a_partition_that_is_lost_meanwhile_is_left_alone(log: Kept) -> None:
    """Reading ends when the partition is gone; what was held is not started."""
    log.attempts[0], taking = attempts(100), Taking(log)
    log.gate.clear()
    await taking((0, 100))
    taking.tracker.let_go(("deliveries", 0))
    assert not taking.taking.waiting
    log.gate.set()
    await settled()
    assert (len(log.reads), taking.worked) == (1, [])


async def test_a_fault_is_told(log: Kept) -> None:
    """When the log cannot be read for a reason that nobody expected, the process ends; nothing is started."""
    log.attempts[0], log.broken, taking = attempts(3), RuntimeError("ours"), Taking(log)
    await taking((0, 3))
    assert [str(fault) for fault in taking.faults] == ["ours"]
    assert taking.worked == []


async def test_catching_up_reads_what_came_since(log: Kept) -> None:
    """Who looks for an attempt reads on from where the taking over ended, each record once."""
    log.attempts[0], taking = attempts(3), Taking(log)
    await taking((0, 3))
    for more in (4, 3):
        log.attempts[0] += attempts(more, len(log.attempts[0]))
        await taking.taking.catch_up(0)
    assert log.reads == [(0, 0, 3), (0, 3, 7), (0, 7, 10)]
    assert taking.known(range(10)) == list(range(10))
    await taking.taking.catch_up(1)


async def test_those_who_look_together_read_once(log: Kept) -> None:
    """Of several that look at the same time, one asks and reads for all that came before it did."""
    log.attempts[0], taking = attempts(3), Taking(log)
    await taking((0, 3))
    log.attempts[0] += attempts(2, 3)
    log.gate.clear()
    looking = [asyncio.create_task(taking.taking.catch_up(0)) for _ in range(3)]
    await settled()
    log.attempts[0] += attempts(2, 5)
    log.gate.set()
    await asyncio.gather(*looking)
    assert (log.reads[1:], log.asked) == ([(0, 3, 5), (0, 5, 7)], 2 + 2)


async def test_it_is_followed_for_as_long_as_others_may_write(log: Kept) -> None:
    """Once the former owner's longest request must have ended, one last look finds the rest; none is needed after."""
    assert module.STILL_WRITES_S == 90
    log.attempts[0], taking = attempts(3), Taking(log)
    await taking((0, 3))
    taken = taking.taking._taken[0]
    taken.until_s = taken.read_at_s
    for _ in range(2):
        log.attempts[0] += attempts(2, len(log.attempts[0]))
        await taking.taking.catch_up(0)
    assert log.reads == [(0, 0, 3), (0, 3, 5)]
