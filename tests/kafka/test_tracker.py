from __future__ import annotations

import pytest

from pipeline.kafka.pulse import Pulse
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
        assert progress.start(offset)
        progress.finish(offset)
    assert progress.floor == floor


def test_an_offset_counts_once() -> None:
    """What is read again counts if it still waits, and is started once, whichever copy comes first."""
    progress = seen(3, 4)
    assert progress.start(3)
    assert [progress.see(offset) for offset in (3, 4, 5)] == [False, True, True]
    assert [progress.start(offset) for offset in (3, 4, 4, 5)] == [False, True, False, True]
    for offset in (5, 3, 4):
        progress.finish(offset)
    assert not any(progress.see(offset) or progress.start(offset) for offset in (3, 4, 5))
    assert (progress.floor, progress.started) == (6, 0)


def test_a_hole_at_the_end_is_passed() -> None:
    """Where the log has nothing but a hole up to its end, the floor is there as soon as reading is."""
    progress = Progress()
    progress.reach(5_000)
    assert progress.floor == 5_000
    assert progress.see(5_000)
    progress.reach(5_003)
    assert (progress.floor, progress.span) == (5_000, 3)
    assert progress.start(5_000)
    progress.finish(5_000)
    assert (progress.floor, progress.span) == (5_003, 0)


def test_a_closed_partition_starts_nothing() -> None:
    """What is in flight may finish; nothing more is begun."""
    progress = seen(0, 1)
    assert progress.start(0)
    progress.close()
    assert not progress.start(1)
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
    assert tracker.partitions[ONE].start(4)
    tracker.partitions[ONE].finish(4)
    assert tracker.due() == {ONE: 5}


def test_a_partition_that_comes_back_starts_afresh() -> None:
    """What still ends of the time before is without effect on the floor."""
    tracker = Tracker()
    tracker.take(ONE)
    before = tracker.partitions[ONE]
    before.see(0)
    assert before.start(0)
    tracker.let_go(ONE)
    tracker.take(ONE)
    tracker.partitions[ONE].see(0)
    before.finish(0)
    assert tracker.due() == {ONE: 0}
    assert not before.start(0)
    assert before.lost
    assert tracker.in_flight([ONE]) == 0


def test_the_sums_are_over_all_partitions() -> None:
    """In flight is counted for the partitions that are asked for, unfinished over all; unknown ones count nothing."""
    tracker = Tracker()
    for partition in (ONE, OTHER):
        tracker.take(partition)
        tracker.partitions[partition].see(1)
        assert tracker.partitions[partition].start(1)
    tracker.partitions[ONE].see(2)
    assert tracker.unfinished == 3
    assert tracker.in_flight([ONE]) == 1
    assert tracker.in_flight([ONE, OTHER, ("elsewhere", 0)]) == 2
    tracker.close([ONE, ("elsewhere", 0)])
    assert not tracker.partitions[ONE].start(2)
    tracker.let_go(("elsewhere", 0))


def test_what_was_closed_is_read_again() -> None:
    """Opened again, a partition is read from its lowest record that waits; what is in flight is not worked on twice."""
    tracker = Tracker()
    for partition in (ONE, OTHER):
        tracker.take(partition)
    progress = tracker.partitions[ONE]
    for offset in (4, 5, 6):
        progress.see(offset)
    assert progress.start(4)
    tracker.close([ONE])
    assert not progress.start(5)
    assert tracker.reopen() == {ONE: 5}
    assert [(progress.see(offset), progress.start(offset)) for offset in (5, 6)] == [(True, True), (True, True)]
    assert tracker.reopen() == {}


def test_work_without_effect_waits_again() -> None:
    """A record whose work ended without its being released is in flight no more, and holds the floor."""
    progress = seen(7, 8)
    for offset in (7, 8):
        assert progress.start(offset)
        progress.answered()
    assert (progress.started, progress.handed) == (2, 0)
    progress.release(8)
    progress.end(8)
    progress.end(7)
    assert (progress.started, progress.floor, progress.waits_from, progress.handed) == (0, 7, 7, 1)


def test_who_has_been_in_flight_for_longest() -> None:
    """Of all that was started the oldest is found with its age's beginning, and of all that waits one that does."""
    tracker = Tracker()
    assert (tracker.oldest(), tracker.waiting()) == (None, None)
    for partition, offset, at in ((ONE, 1, 20.0), (OTHER, 3, 10.0), (OTHER, 4, 30.0)):
        if partition not in tracker.partitions:
            tracker.take(partition)
        tracker.partitions[partition].see(offset)
        tracker.pulse.at = at
        assert tracker.partitions[partition].start(offset)
    assert (tracker.oldest(), tracker.waiting()) == ((10.0, OTHER, 3), None)
    moves = tracker.moves
    tracker.partitions[OTHER].finish(3)
    tracker.partitions[OTHER].see(9)
    assert (tracker.oldest(), tracker.waiting()) == ((20.0, ONE, 1), (OTHER, 9))
    assert tracker.moves == moves + 1


def test_nothing_starts_after_a_late_tick() -> None:
    """When the last tick is older than the patience nothing starts, and the next tick says that it was late."""
    tracker = Tracker(pulse=Pulse(0.05))
    assert tracker.pulse.beat()
    progress = tracker.take(ONE)
    progress.see(0)
    progress.see(1)
    assert progress.start(0)
    tracker.pulse.until -= 0.1  # so much time has passed unnoticed
    assert not progress.start(1)
    assert not tracker.pulse.beat()
    assert tracker.pulse.beat()
