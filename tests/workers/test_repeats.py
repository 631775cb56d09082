from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline.flow.deliver import Carriage, Dead, Done, Next, Retry, Skipped
from pipeline.workers.repeats import Copy, Made, Repeats, Standing
from tests.workers.parts import DELIVERY, Handle, read, settled

FIRST, OWED, REPEAT, BUSY = Standing


def copy(attempt: int = 1, offset: int = 5, delivery: str = "msg_1", **carried: int | str) -> Copy:
    """A writing of a delivery, as it was read."""
    carriage = Carriage(str(carried.get("round", "")), int(carried.get("hop", 0)))
    if "stands_for" in carried:
        carriage = replace(carriage, stands_for=int(carried["stands_for"]))
    held = replace(DELIVERY, id=delivery, attempt=attempt)
    return Copy((delivery, carriage.round), read(offset=offset), held, carriage, Handle())


def test_an_attempt_that_was_made_is_not_made_again() -> None:
    """A copy whose attempt is not higher than the last finished one of its round is a repeat, whatever its hop."""
    repeats = Repeats()
    first = copy(2)
    assert repeats.begin(first) is FIRST
    repeats.finish(first)
    assert [repeats.begin(copy(attempt, 6, hop=hop)) for attempt, hop in ((2, 0), (2, 7), (1, 3))] == [REPEAT] * 3
    assert repeats.begin(copy(2, round="again")) is FIRST
    assert repeats.begin(copy(2, delivery="msg_2")) is FIRST
    assert repeats.begin(copy(3, hop=1)) is FIRST


async def test_a_copy_in_flight_is_joined() -> None:
    """A second copy of a round waits for the end of the first, and is then judged by what that has made."""
    repeats, first = Repeats(), copy()
    assert repeats.begin(first) is FIRST
    assert repeats.begin(copy()) is BUSY
    seconds = [asyncio.create_task(repeats.turn(copy(attempt, 6, hop=attempt))) for attempt in (1, 1, 2)]
    await settled()
    assert not any(second.done() for second in seconds)
    repeats.finish(first)
    assert await asyncio.gather(*seconds) == [REPEAT, REPEAT, FIRST]


async def test_a_copy_that_was_given_up_is_taken_over_once() -> None:
    """When the first copy is given up, one of those that wait takes its place and the others wait for it."""
    repeats, first = Repeats(), copy()
    repeats.begin(first)
    others = [copy(offset=offset) for offset in (6, 7, 8)]
    seconds = [asyncio.create_task(repeats.turn(other)) for other in others]
    await settled()
    repeats.give_up(first)
    await settled()
    assert [second.result() for second in seconds if second.done()] == [FIRST]
    repeats.finish(others[0])
    assert await asyncio.gather(*seconds) == [FIRST, REPEAT, REPEAT]


async def test_one_that_stops_waiting_leaves_the_first_alone() -> None:
    """A cancelled second copy neither ends the first nor the others that wait."""
    repeats, first = Repeats(), copy()
    repeats.begin(first)
    one, other = (asyncio.create_task(repeats.turn(copy(offset=offset))) for offset in (6, 7))
    await settled()
    one.cancel()
    await settled()
    assert one.cancelled()
    repeats.finish(first)
    assert await other is REPEAT


@pytest.mark.parametrize("then", [Retry(5_000), Dead("gone")])
def test_what_is_owed_is_owed_to_its_own_record_or_carrier(then: Next) -> None:
    """What follows an attempt that was found is for the record it answers, or its carrier; other copies are dropped."""
    for owner in (copy(2, 8, hop=3), copy(2, 9, hop=4, stands_for=3)):
        repeats = Repeats()
        repeats.learn(owner.round, Made(2, then, 3, 8))
        assert repeats.begin(copy(2, 9, hop=3)) is REPEAT
        assert repeats.begin(copy(2, 9, hop=4, stands_for=1)) is REPEAT
        assert repeats.begin(copy(1, 8, hop=3)) is REPEAT
        assert repeats.begin(owner) is OWED
        assert owner.then == then
        repeats.finish(owner)
        assert repeats.begin(copy(2, 8, hop=3)) is REPEAT
        assert repeats.begin(copy(2, 9, hop=4, stands_for=3)) is REPEAT
        assert repeats.begin(copy(3, 9, hop=4)) is FIRST


@pytest.mark.parametrize("then", [Done(), Skipped()])
def test_nothing_is_owed_where_nothing_follows(then: Next) -> None:
    """An attempt after which nothing is to be done makes repeats of all its copies."""
    repeats = Repeats()
    repeats.learn(("msg_1", ""), Made(1, then, 0, 5))
    assert repeats.begin(copy()) is REPEAT
    assert repeats.begin(copy(offset=9, stands_for=0)) is REPEAT


def test_what_is_known_here_stands() -> None:
    """An attempt found in the log changes nothing for a round that is worked on, or that has come as far."""
    repeats, first, made = Repeats(), copy(), Made(1, Retry(1), 0, 5)
    repeats.begin(first)
    repeats.learn(first.round, made)
    repeats.finish(first)
    repeats.learn(first.round, made)
    assert repeats.begin(copy()) is REPEAT
    repeats.learn(first.round, Made(3, Retry(1), 6, 9))
    assert repeats.begin(copy(2, hop=3)) is REPEAT
    assert repeats.begin(copy(3, 9, hop=6)) is OWED


async def test_copies_of_a_carried_request_wait_for_nothing() -> None:
    """When the carrier is durable, other copies of the request are dropped at once; the carrier waits for its end."""
    repeats, first = Repeats(), copy()
    repeats.begin(first)
    waiting = asyncio.create_task(repeats.turn(copy(offset=6)))
    carrier = copy(offset=7, hop=1, stands_for=0)
    carrying = asyncio.create_task(repeats.turn(carrier))
    await settled()
    repeats.carry(first)
    assert await waiting is REPEAT
    assert not carrying.done()
    repeats.owe(first, Retry(5_000))
    assert await carrying is OWED
    assert carrier.then == Retry(5_000)


def test_what_is_owed_can_be_owed_on() -> None:
    """A copy that was to carry out what is owed, and is given up, leaves it owed."""
    repeats, first = Repeats(), copy()
    repeats.begin(first)
    repeats.owe(first, Retry(5_000))
    again = copy()
    assert repeats.begin(again) is OWED
    repeats.give_up(again)
    assert repeats.begin(copy()) is OWED


def test_knowing() -> None:
    """A carrier's attempt is known while it is under way, when it was made, and when it was found."""
    repeats, first = Repeats(), copy()
    assert not repeats.knows(copy(stands_for=0))
    repeats.begin(first)
    assert repeats.knows(copy(stands_for=0))
    repeats.finish(first)
    assert repeats.knows(copy(stands_for=0))
    assert not repeats.knows(copy(2, stands_for=1))
    repeats.learn(first.round, Made(2, Retry(1), 1, 6))
    assert repeats.knows(copy(2, stands_for=1))


def test_the_set_is_bounded() -> None:
    """Beyond its size the rounds that were seen longest ago are forgotten; those in flight never are."""
    repeats, in_flight = Repeats(keys=3), copy(delivery="msg_9")
    repeats.begin(in_flight)
    for number in (0, 1, 2, 3):
        one = copy(delivery=f"msg_{number}")
        repeats.begin(one)
        repeats.finish(one)
    again = copy(2, delivery="msg_1")
    repeats.begin(again)
    repeats.finish(again)
    repeats.learn(("msg_4", ""), Made(1, Done(), 0, 5))
    standings = [repeats.begin(copy(delivery=f"msg_{number}")) for number in (0, 1, 2, 3, 4)]
    assert standings == [FIRST, REPEAT, FIRST, REPEAT, REPEAT]
    assert repeats.begin(copy(delivery="msg_9")) is BUSY
    for number in range(10):
        repeats.learn((f"msg_1{number}", ""), Made(1, Retry(1), 0, 5))
    assert len(repeats._owed) == len(repeats._last) == 3
