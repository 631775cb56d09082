"""Whole lives of a partition, in every order that hypothesis can think of, and trackers that must not survive them."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pipeline.kafka.tracker import Progress, Tracker

ONE = ("deliveries", 0)


class Life(RuleBasedStateMachine):
    """One partition, one owner after the other, against a log of which all is known.

    `log` has the offsets of its records, with holes; it begins at `start` and ends at `end`, which may lie behind a
    hole. `done` are the records that somebody has finished, or that the log has no longer. `stored` is the group's
    offset; a new group has none.
    """

    progress_type: type[Progress] = Progress

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.start_of_log = self.end = 0
        self.stored: int | None = None
        self.done: set[int] = set()
        self.tracker = Tracker(fresh=self.progress_type)
        self.position = 0
        self.read: list[tuple[Progress, int]] = []
        self.started: list[tuple[Progress, int]] = []
        self.take()

    def take(self) -> None:
        """As an assignment does: reading begins at the group's offset, or where the log does if that is gone."""
        self.tracker.take(ONE)
        self.position = max(self.stored or 0, self.start_of_log)

    @property
    def held(self) -> Progress | None:
        """The partition's progress, while this process has it."""
        return self.tracker.partitions.get(ONE)

    @property
    def open(self) -> bool:
        """Whether the process has the partition and may work on it."""
        return self.held is not None and not self.held.closed

    @rule(holes=st.lists(st.sampled_from([0, 0, 1, 7]), min_size=1, max_size=5))
    def write(self, holes: list[int]) -> None:
        """The log grows, with a hole before a record now and then."""
        for hole in holes:
            self.log.append(self.end + hole)
            self.end += hole + 1

    @rule(size=st.integers(1, 3))
    def mark(self, size: int) -> None:
        """The log ends in a hole: transaction markers, aborted records, what compaction took."""
        self.end += size

    @rule(share=st.integers(1, 4))
    def trim(self, share: int) -> None:
        """Retention takes the beginning of the log, read or not."""
        self.start_of_log = max(self.start_of_log, self.end * share // 4)
        self.done.update(offset for offset in self.log if offset < self.start_of_log)
        self.position = max(self.position, self.start_of_log)

    @precondition(lambda self: self.held is not None)
    @rule(count=st.integers(1, 6), at_once=st.booleans())
    def deliver(self, count: int, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """A batch is read, and work on it begins at once or later; at the end of the log, the reader says so."""
        assert self.held is not None
        for offset in [offset for offset in self.log if offset >= self.position][:count]:
            if self.held.see(offset):
                self.read.append((self.held, offset))
            self.position = offset + 1
        if not [offset for offset in self.log if offset >= self.position]:
            self.held.reach(self.end)
            self.position = self.end
        if at_once:
            self.start(len(self.read))

    @rule(count=st.integers(1, 6))
    def start(self, count: int) -> None:
        """Work on the next records begins, or is refused."""
        for progress, offset in self.read[:count]:
            if progress.start(offset):
                assert progress is self.held, "a partition that is another's"
                assert self.open, "a partition that is being given up"
                assert (progress, offset) not in self.started, "a record that is being worked on"
                self.started.append((progress, offset))
        del self.read[:count]

    @precondition(lambda self: self.started)
    @rule(data=st.data(), how=st.sampled_from(["finish", "release"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        """Work on a record ends, in any order, even after its partition was lost; or another record carries it on."""
        progress, offset = self.started.pop(data.draw(st.integers(0, len(self.started) - 1)))
        self.done.add(offset)
        if how == "finish":
            progress.finish(offset)
        else:
            progress.answered()
            progress.release(offset)
            progress.end(offset)

    @rule()
    def commit(self) -> None:
        """The broker stores what is due."""
        due = self.tracker.due()
        self.tracker.committed(due)
        self.stored = due.get(ONE, self.stored)

    @precondition(lambda self: self.held is not None)
    @rule(how=st.sampled_from(["close", "lose", "revoke"]))
    def give_up(self, how: str) -> None:
        """A revocation or a doubt begins; or the partition is lost; or revoked, with a last commit."""
        self.tracker.close([ONE])
        if how == "revoke":
            self.commit()
        if how != "close":
            self.tracker.let_go(ONE)

    @precondition(lambda self: self.held is not None and self.held.closed)
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        """The doubt was for nothing: what waited, or was left without effect, is read again."""
        for progress, offset in [one for one in self.started if one[0] is self.held]:
            if data.draw(st.booleans()):
                progress.answered()
                progress.end(offset)
                self.started.remove((progress, offset))
        self.position = max(self.tracker.reopen().get(ONE, self.position), self.start_of_log)

    @precondition(lambda self: self.held is None)
    @rule()
    def retake(self) -> None:
        """It comes back."""
        self.take()

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The process dies; what it had in flight has been effective, or has not. Another one begins."""
        self.done.update(offset for _, offset in self.started if data.draw(st.booleans()))
        self.read, self.started = [], []
        self.tracker = Tracker(fresh=self.progress_type)
        self.take()

    @precondition(lambda self: self.open and all(progress is self.held for progress, _ in self.started))
    @rule()
    def work_it_off(self) -> None:
        """All there is gets read and finished: then the commit is at the end of the log, whatever holes it has."""
        self.deliver(len(self.log) + 1, at_once=True)
        for progress, offset in self.started:
            self.done.add(offset)
            progress.finish(offset)
        self.started = []
        assert self.tracker.unfinished == self.tracker.in_flight([ONE]) == 0
        assert self.held is None or self.held.handed == 0
        self.commit()
        assert self.stored == self.end, "the commit stalls"

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        """Neither the floor nor the group's offset lies beyond a record that nobody has finished."""
        floor = self.held.floor if self.held is not None else None
        for offset in self.log:
            if offset not in self.done:
                assert self.stored is None or self.stored <= offset, "the commit has passed it"
                assert floor is None or floor <= offset, "the floor has passed it"


def live(progress_type: type[Progress], lives: int) -> None:
    """So many lives, always the same, with this rule for the floor."""
    machine = type("Life", (Life,), {"progress_type": progress_type})
    how = settings(
        max_examples=lives, stateful_step_count=40, deadline=None, database=None, report_multiple_bugs=False,
        print_blob=False, derandomize=True, phases=[Phase.generate],
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=how)


def test_the_floor_never_passes_an_unfinished_offset() -> None:
    """Over all interleavings of deliver, finish, revoke, reassign, crash and hole nothing is passed, nothing stalls."""
    live(Progress, lives=300)


class HighestFinished(Progress):
    """Commits behind the highest finished offset: fast, and it loses."""

    top: int | None = None

    def release(self, offset: int) -> None:
        """Remembered."""
        super().release(offset)
        self.top = max(offset + 1, self.top or 0)

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        return self.top if self.unfinished else self.next


class FirstRun(Progress):
    """Commits behind the first contiguous run of finished offsets, as Faust's own consumer does: it does both."""

    def __init__(self) -> None:
        super().__init__()
        self.finished: set[int] = set()

    def release(self, offset: int) -> None:
        """Remembered."""
        super().release(offset)
        self.finished.add(offset)

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        if not self.finished:
            return None if self.unfinished else self.next
        end = min(self.finished) + 1
        while end in self.finished:
            end += 1
        return end


class Contiguous(Progress):
    """Commits behind the contiguous prefix of finished offsets: safe, but a hole stalls it for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.first: int | None = None
        self.finished: set[int] = set()

    def see(self, offset: int) -> bool:
        """Remembered."""
        if self.first is None:
            self.first = offset
        return super().see(offset)

    def release(self, offset: int) -> None:
        """Remembered."""
        super().release(offset)
        self.finished.add(offset)

    @property
    def floor(self) -> int | None:
        """The wrong one."""
        if self.first is None:
            return self.next
        end = self.first
        while end in self.finished:
            end += 1
        return end


class SeenAlone(Progress):
    """Passes what it has seen, and no hole that the log ends in."""

    def reach(self, position: int) -> None:
        """Not heard."""


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (HighestFinished, "has passed it"),
        (FirstRun, "has passed it|the commit stalls"),
        (Contiguous, "the commit stalls"),
        (SeenAlone, "the commit stalls"),
    ],
)
def test_a_wrong_floor_is_caught(wrong: type[Progress], found: str) -> None:
    """The test of the test: floors that lose or stall do not survive it."""
    with pytest.raises(AssertionError, match=found):
        live(wrong, lives=3_000)
