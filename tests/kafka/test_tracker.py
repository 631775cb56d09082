from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pipeline.kafka.tracker import Progress, Tracker

ONE, OTHER = ("deliveries", 0), ("deliveries", 1)


def seen(*offsets: int) -> Progress:
    progress = Progress()
    for offset in offsets:
        progress.see(offset)
    return progress


def test_nothing_seen_has_no_floor() -> None:
    """A partition of which nothing has been read commits nothing."""
    assert Progress().floor is None


@pytest.mark.parametrize(
    ("offsets", "finished", "floor"),
    [
        ((0, 1, 2), (), 0),
        ((0, 1, 2), (1, 2), 0),
        ((0, 1, 2), (0, 2), 1),
        ((0, 1, 2), (2, 1, 0), 3),
        ((5_000, 5_001), (5_000, 5_001), 5_002),
        ((7, 20, 21), (7,), 20),
        ((7, 20, 21), (20, 7, 21), 22),
    ],
)
def test_the_floor_is_the_lowest_unfinished(offsets: tuple[int, ...], finished: tuple[int, ...], floor: int) -> None:
    """Whatever the order of the ends and the holes, it is the lowest unfinished offset, else the last seen + 1."""
    progress = seen(*offsets)
    for offset in finished:
        assert progress.start()
        progress.finish(offset)
    assert progress.floor == floor


def test_an_offset_counts_once() -> None:
    """What is read again while it is held already is not worked on a second time."""
    progress = Progress()
    assert [progress.see(offset) for offset in (3, 4, 3, 4, 5)] == [True, True, False, False, True]
    for offset in (3, 4, 5):
        assert progress.start()
        progress.finish(offset)
    assert (progress.floor, progress.started) == (6, 0)


def test_a_closed_partition_starts_nothing() -> None:
    """What is in flight may finish; nothing more is begun."""
    progress = seen(0, 1)
    assert progress.start()
    progress.close()
    assert not progress.start()
    assert progress.started == 1
    progress.finish(0)
    assert (progress.started, progress.floor) == (0, 1)


def test_only_what_has_changed_is_due() -> None:
    """A floor is due until the broker has stored it, and again when it has risen."""
    tracker = Tracker()
    tracker.take(ONE)
    tracker.take(OTHER)
    assert tracker.due() == {}
    tracker.partitions[ONE].see(4)
    assert tracker.due() == {ONE: 4}
    tracker.committed({ONE: 4, ("elsewhere", 0): 9})
    assert tracker.due() == {}
    assert tracker.partitions[ONE].start()
    tracker.partitions[ONE].finish(4)
    assert tracker.due() == {ONE: 5}


def test_a_partition_that_comes_back_starts_afresh() -> None:
    """What still ends of the time before is without effect on the floor."""
    tracker = Tracker()
    tracker.take(ONE)
    before = tracker.partitions[ONE]
    before.see(0)
    assert before.start()
    tracker.let_go(ONE)
    tracker.take(ONE)
    tracker.partitions[ONE].see(0)
    before.finish(0)
    assert tracker.due() == {ONE: 0}
    assert not before.start()
    assert tracker.in_flight([ONE]) == 0


def test_the_sums_are_over_all_partitions() -> None:
    """In flight is counted for the partitions that are asked for, unfinished over all; unknown ones count nothing."""
    tracker = Tracker()
    for partition in (ONE, OTHER):
        tracker.take(partition)
        tracker.partitions[partition].see(1)
        assert tracker.partitions[partition].start()
    tracker.partitions[ONE].see(2)
    assert tracker.unfinished == 3
    assert tracker.in_flight([ONE]) == 1
    assert tracker.in_flight([ONE, OTHER, ("elsewhere", 0)]) == 2
    tracker.close([ONE, ("elsewhere", 0)])
    assert not tracker.partitions[ONE].start()
    tracker.let_go(("elsewhere", 0))


class Life(RuleBasedStateMachine):
    """A partition's life against a log of which all is known: what was written, what has been finished by whom."""

    progress_type: type[Progress] = Progress

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.log: list[int] = []
        self.position = 0
        self.stored = 0
        self.finished: set[int] = set()
        self.queued: list[tuple[Progress, int]] = []
        self.started: list[tuple[Progress, int]] = []
        self.closed = False
        self.take()

    def take(self) -> None:
        """As an assignment does: reading begins at the commit."""
        self.tracker.take(ONE)
        self.tracker.partitions[ONE] = self.progress_type()
        self.position = self.stored

    @property
    def held(self) -> Progress | None:
        """The partition's progress, while it is here."""
        return self.tracker.partitions.get(ONE)

    @rule(holes=st.lists(st.sampled_from([0, 0, 1, 7]), min_size=1, max_size=5))
    def write(self, holes: list[int]) -> None:
        """The log grows, with a hole before a record now and then."""
        for hole in holes:
            self.log.append((self.log[-1] + 1 if self.log else 0) + hole)

    @precondition(lambda self: self.held and not self.closed)
    @rule(count=st.integers(1, 6), at_once=st.booleans())
    def see(self, count: int, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """A batch is read, and work on it begins at once or later."""
        assert self.held is not None
        for offset in [offset for offset in self.log if offset >= self.position][:count]:
            assert self.held.see(offset) is not False
            self.queued.append((self.held, offset))
            self.position = offset + 1
        if at_once:
            self.start(len(self.queued))

    @rule(count=st.integers(1, 6))
    def start(self, count: int) -> None:
        """Work on the next records begins, or is refused."""
        for progress, offset in self.queued[:count]:
            assert progress.open == (progress is self.held and not self.closed)
            if progress.start():
                self.started.append((progress, offset))
        del self.queued[:count]

    @precondition(lambda self: self.started)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Work on a record ends, in any order, even after its partition was lost."""
        progress, offset = self.started.pop(data.draw(st.integers(0, len(self.started) - 1)))
        self.finished.add(offset)
        progress.finish(offset)

    @rule()
    def commit(self) -> None:
        """The broker stores what is due."""
        due = self.tracker.due()
        self.tracker.committed(due)
        self.stored = due.get(ONE, self.stored)

    @precondition(lambda self: self.held)
    @rule(how=st.sampled_from(["close", "lose", "revoke"]))
    def give_up(self, how: str) -> None:
        """A revocation begins, or the partition is lost, or revoked with a last commit."""
        self.tracker.close([ONE])
        self.closed = True
        if how == "revoke":
            self.commit()
        if how != "close":
            self.tracker.let_go(ONE)

    @precondition(lambda self: self.held is None)
    @rule()
    def retake(self) -> None:
        """It comes back."""
        self.take()
        self.closed = False

    @precondition(lambda self: self.held is not None and not self.closed)
    @rule()
    def work_it_off(self) -> None:
        """All that has been read is finished: then the floor stands behind it."""
        self.start(len(self.queued))
        for progress, offset in self.started:
            self.finished.add(offset)
            progress.finish(offset)
        self.started = []
        assert self.held is not None
        if self.held.next is not None:
            assert self.held.floor == self.position
            assert self.tracker.unfinished == self.tracker.in_flight([ONE]) == 0

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        """Neither the floor nor what is stored lies beyond a record that nobody has finished."""
        floor = self.held.floor if self.held is not None else None
        for offset in self.log:
            if offset not in self.finished:
                assert self.stored <= offset
                assert floor is None or floor <= offset


def live(progress_type: type[Progress], lives: int = 150) -> None:
    """Many lives, with this rule for the floor."""
    machine = type("Life", (Life,), {"progress_type": progress_type})
    how = settings(
        max_examples=lives, stateful_step_count=40, deadline=None, database=None, report_multiple_bugs=False,
        print_blob=False, phases=[Phase.generate],
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=how)


def test_the_floor_never_passes_an_unfinished_offset() -> None:
    """Over all interleavings of reading, finishing, losing and coming back, nothing is passed and nothing stalls."""
    live(Progress)


class HighestFinished(Progress):
    """Commits behind the highest finished offset: fast, and wrong."""

    top: int | None = None

    def finish(self, offset: int) -> None:
        """Remembered."""
        super().finish(offset)
        self.top = max(offset + 1, self.top or 0)

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        return self.top


class FirstRun(Progress):
    """Commits behind the first contiguous run of finished offsets, as Faust's own consumer does."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def finish(self, offset: int) -> None:
        """Remembered."""
        super().finish(offset)
        self.done = sorted([*self.done, offset])

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        if not self.done:
            return None
        end = self.done[0] + 1
        while end in self.done:
            end += 1
        return end


class Contiguous(Progress):
    """Commits behind the contiguous prefix of finished offsets: safe, but a hole stalls it for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.first: int | None = None
        self.done: set[int] = set()

    def see(self, offset: int) -> bool:
        """Remembered."""
        if self.first is None:
            self.first = offset
        return super().see(offset)

    def finish(self, offset: int) -> None:
        """Remembered."""
        super().finish(offset)
        self.done.add(offset)

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        end = self.first
        while end in self.done:
            end += 1
        return end


@pytest.mark.parametrize("wrong", [HighestFinished, FirstRun, Contiguous])
def test_a_wrong_floor_is_caught(wrong: type[Progress]) -> None:
    """The test of the test: floors that lose or stall do not pass it."""
    with pytest.raises(AssertionError):
        live(wrong, lives=3_000)
