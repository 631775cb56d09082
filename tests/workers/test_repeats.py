from __future__ import annotations

import asyncio

from pipeline.workers.repeats import Repeats
from tests.workers.parts import settled

KEY = ("msg_1", "", 0)


async def test_a_finished_copy_is_not_worked_on_again() -> None:
    """The same delivery, round and hop again is dropped; another hop or round is another copy."""
    repeats = Repeats()
    assert await repeats.first(KEY)
    repeats.finish(KEY)
    assert not await repeats.first(KEY)
    assert await repeats.first(("msg_1", "", 1))
    assert await repeats.first(("msg_1", "again", 0))


async def test_a_copy_in_flight_is_joined() -> None:
    """A second copy waits for the end of the first, and is then dropped."""
    repeats = Repeats()
    assert await repeats.first(KEY)
    seconds = [asyncio.create_task(repeats.first(KEY)) for _ in range(3)]
    await settled()
    assert not any(second.done() for second in seconds)
    repeats.finish(KEY, 1)
    assert await asyncio.gather(*seconds) == [False, False, False]


async def test_a_copy_that_was_given_up_is_taken_over_once() -> None:
    """When the first copy is given up, one of those that wait takes its place and the others wait for it."""
    repeats = Repeats()
    assert await repeats.first(KEY)
    seconds = [asyncio.create_task(repeats.first(KEY)) for _ in range(3)]
    await settled()
    repeats.give_up(KEY)
    await settled()
    assert [second.result() for second in seconds if second.done()] == [True]
    repeats.finish(KEY, 1)
    assert sorted(await asyncio.gather(*seconds)) == [False, False, True]


async def test_one_that_stops_waiting_leaves_the_first_alone() -> None:
    """A cancelled second copy neither ends the first nor the others that wait."""
    repeats = Repeats()
    assert await repeats.first(KEY)
    one, other = (asyncio.create_task(repeats.first(KEY)) for _ in range(2))
    await settled()
    one.cancel()
    await settled()
    assert one.cancelled()
    repeats.finish(KEY)
    assert await other is False


async def test_the_last_attempt_of_a_round_is_remembered() -> None:
    """An attempt counts as made when its round has finished it or a higher one; each round counts for itself."""
    repeats = Repeats()
    assert not repeats.attempted("msg_1", "", 1)
    for hop, attempt in ((0, 1), (1, 2), (2, 1), (3, 0)):
        assert await repeats.first(("msg_1", "", hop))
        repeats.finish(("msg_1", "", hop), attempt)
    assert repeats.attempted("msg_1", "", 1)
    assert repeats.attempted("msg_1", "", 2)
    assert not repeats.attempted("msg_1", "", 3)
    assert not repeats.attempted("msg_1", "again", 1)


async def test_the_set_is_bounded() -> None:
    """Beyond its size the oldest copies and rounds are forgotten; those in flight never are."""
    repeats = Repeats(keys=3)
    in_flight = ("msg_0", "", 9)
    assert await repeats.first(in_flight)
    for number in range(5):
        assert await repeats.first((f"msg_{number}", "", 0))
        repeats.finish((f"msg_{number}", "", 0), 1)
    assert len(repeats._finished) == len(repeats._attempts) == 3
    assert not await repeats.first(("msg_4", "", 0))
    assert await repeats.first(("msg_0", "", 0))
    assert [repeats.attempted(f"msg_{number}", "", 1) for number in range(5)] == [False, False, True, True, True]
    repeats.finish(in_flight)
    assert not await repeats.first(in_flight)
