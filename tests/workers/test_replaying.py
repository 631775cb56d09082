from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.replay import Ordered, Progress, Reached, Replay, Span, State
from pipeline.workers.replaying import MOST_SHARES, Course, Looked, settled, share_of
from tests.workers.parts import CODEC, NOW_MS

pytestmark = pytest.mark.replay
ORDER = Replay("rpl_1", "acme", Ordered.RUNNING, (Span(0, 10, 20), Span(3, 100, 105)))
ALL = frozenset({0, 1})


def looked(deliveries: int = 0, **events: int) -> Looked:
    """`p0=12` is the record at 12 of partition 0."""
    made = Looked()
    for name, offset in events.items():
        made.at(int(name[1]), offset, unreadable=False)
    for _ in range(deliveries):
        made.wrote(7)
    return made


def again(course: Course) -> Course:
    """As the next process has it, from the record."""
    record = CODEC.encode_replay_progress(course.progress(State.RUNNING, NOW_MS))
    return Course.of(course.order, CODEC.decode_replay_progress(record), 99, NOW_MS + 5)


@pytest.mark.parametrize(
    ("ordered", "state", "expected"),
    [
        (Ordered.RUNNING, None, None),
        (Ordered.RUNNING, State.PAUSED, None),
        (Ordered.RUNNING, State.DONE, State.DONE),
        (Ordered.PAUSED, State.RUNNING, State.PAUSED),
        (Ordered.PAUSED, State.CANCELLED, State.CANCELLED),
        (Ordered.CANCELLED, State.RUNNING, State.CANCELLED),
        (Ordered.CANCELLED, State.DONE, State.DONE),
    ],
)
def test_what_is_over_stays_so(ordered: Ordered, state: State | None, expected: State | None) -> None:
    """An order runs unless it is paused or cancelled, and one that has ended never does again."""
    progress = None if state is None else Progress(ORDER.id, state, ())
    assert settled(replace(ORDER, ordered=ordered), progress) == expected


def test_a_webhook_has_one_share() -> None:
    """The same for ever, and the shares are about equally large."""
    shares = [share_of(f"acme/wh_{number}", 8) for number in range(800)]
    assert (share_of("acme/wh_1", 32), share_of("acme/wh_2", 32)) == (5, 0)
    assert all(60 < shares.count(share) < 140 for share in range(8))


@pytest.mark.parametrize(("webhooks", "shares"), [(0, 1), (1, 1), (5, 5), (1_000, MOST_SHARES)])
def test_as_many_shares_as_webhooks(webhooks: int, shares: int) -> None:
    """Up to a number."""
    assert Course.of(ORDER, None, webhooks, NOW_MS).shares == shares


def test_all_are_read_for_together_at_first() -> None:
    """One reader for all shares, over the whole window."""
    course = Course.of(ORDER, None, 2, NOW_MS)
    ((shares, positions),) = course.together().items()
    assert (shares, positions, course.spans(positions)) == (ALL, {0: 10, 3: 100}, ORDER.window)


def test_what_is_noted_is_there_after_the_process_has_died() -> None:
    """Positions and counts, to the record; the number of shares is the one that the replay began with."""
    course = Course.of(ORDER, None, 2, NOW_MS)
    course.note(ALL, {0: 13, 3: 102}, looked(4, p0=12, p3=101))
    course.note(frozenset({1}), {0: 15, 3: 102}, looked(1, p0=14))
    resumed = again(course)
    assert (resumed.events, resumed.deliveries, resumed.bytes, resumed.started_ms) == (3, 5, 35, NOW_MS)
    assert resumed.reached == [{0: 13, 3: 102}, {0: 15, 3: 102}]
    assert resumed.together() == {frozenset({0}): {0: 13, 3: 102}, frozenset({1}): {0: 15, 3: 102}}


def test_a_record_that_two_readers_pass_counts_once() -> None:
    """Whoever is ahead counts it; a death between the two makes no difference."""
    course = Course.of(ORDER, None, 2, NOW_MS)
    course.note(frozenset({0}), {0: 12, 3: 100}, looked(p0=11))
    behind = looked(p0=11)
    behind.at(0, 12, unreadable=True)
    resumed = again(course)
    resumed.note(frozenset({1}), {0: 13, 3: 100}, behind)
    assert (resumed.events, resumed.unreadable) == (2, 1)


def test_a_partition_that_is_over_is_not_read_again() -> None:
    """What is left of a window has no empty spans, and a course without any is over."""
    course = Course.of(ORDER, None, 1, NOW_MS)
    course.note(frozenset({0}), {0: 20, 3: 102}, Looked())
    ((_, positions),) = course.together().items()
    assert course.spans(positions) == (Span(3, 102, 105),)
    course.note(frozenset({0}), {3: 105}, Looked())
    assert course.together() == {}


def test_the_record_tells_all() -> None:
    """Each share and partition; an end only of a replay that is over."""
    course = Course.of(ORDER, None, 2, NOW_MS)
    told = course.progress(State.DONE, NOW_MS + 9, error="gone")
    assert told.partitions == (Reached(0, 10, 20), Reached(3, 100, 105), Reached(0, 10, 20, 1), Reached(3, 100, 105, 1))
    assert (told.started_ms, told.ended_ms, told.error) == (NOW_MS, NOW_MS + 9, "gone")
    assert course.progress(State.RUNNING, NOW_MS).ended_ms is None
