"""A window of dead letters, brought back as they stand in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.flow.deadletter import DeadLetter, LetterState, Reason, Source
from pipeline.flow.history import DeadSeen
from pipeline.flow.replay import Ordered, Replay, Span
from pipeline.flow.replay import Source as Of
from pipeline.ports import Record
from pipeline.workers.bringing import Bringing, Standing
from pipeline.workers.carriage import of_headers
from pipeline.workers.matching import Made
from pipeline.workers.redrive import Redrive, round_in
from tests.workers.parts import CODEC, DELIVERY, NOW_MS
from tests.workers.test_redrive import Was
from tests.workers.test_router import Tenants, produced

pytestmark = pytest.mark.replay
ORDER = Replay("rpl_1", "acme", Ordered.RUNNING, (Span(3, 0, 50),), created_ms=NOW_MS, source=Of.DEAD_LETTERS)
FAILED = DeadLetter("dl_1", Reason.EXHAUSTED, "", Source("deliveries", 3, 7), NOW_MS, delivery=DELIVERY)


def routed_letter() -> DeadLetter:
    """Of an event whose tenant was not known at the time."""
    record = produced()
    place = Source(record.topic, record.partition, record.offset)
    return DeadLetter("dl_2", Reason.UNKNOWN_TENANT, "", place, NOW_MS, record.key, record.value, record.headers)


def at(offset: int, letter: DeadLetter | bytes) -> Record:
    """A record of `retry-dlq`."""
    value = letter if isinstance(letter, bytes) else CODEC.encode_dead_letter(letter)
    return Record("retry-dlq", 3, offset, None, value, (), NOW_MS)


def seen(letter: DeadLetter, offset: int = 5) -> DeadSeen:
    return DeadSeen(letter.id, "acme", "wh_1", None, "", letter.reason.value, NOW_MS, 3, offset, "")


async def brought(
    *records: Record, states: dict[str, LetterState], offset: int = 5, letters: Sequence[DeadLetter] = (FAILED,)
) -> list[Made]:
    """What comes of these, of letters that the log has at that place."""
    held: Standing = {one.id: (seen(one, offset), states[one.id]) for one in letters if one.id in states}

    async def standing(ids: Sequence[str]) -> Standing:
        return {name: found for name, found in held.items() if name in ids}

    async def learn(_values: Sequence[bytes | None]) -> None: ...

    redrive = Redrive(CODEC, Tenants(), Was(), lambda: NOW_MS, "deliveries-replay")
    return await Bringing(ORDER, CODEC, redrive, learn, standing)(records)


@pytest.mark.parametrize("state", list(LetterState))
async def test_what_waits_goes_and_nothing_else(state: LetterState) -> None:
    """A letter is redriven at most once at a time: one that is under way, redriven or discarded is left alone."""
    (made,) = await brought(at(5, FAILED), states={"dl_1": state})
    assert [one.path for one in made.bound] == ["acme/wh_1"] * (state is LetterState.WAITING)
    assert not made.unreadable


async def test_a_repeat_is_the_same_round() -> None:
    """After a crash the letter is brought back in the round of before: it is known for a repeat."""
    twice = [await brought(at(5, FAILED), states={"dl_1": LetterState.WAITING}) for _ in range(2)]
    rounds = {of_headers(made.bound[0].out.headers).round for (made,) in twice}
    assert rounds == {round_in(ORDER, FAILED)}


async def test_what_comes_of_one_letter_stays_together() -> None:
    """An event for two webhooks has one share, and its letter says that it was redriven, to be written after them."""
    letter = routed_letter()
    (made,) = await brought(at(5, letter), states={"dl_2": LetterState.WAITING}, letters=[letter])
    assert {(one.path, one.by) for one in made.bound} == {("acme/wh_1", "dl_2"), ("acme/wh_2", "dl_2")}
    assert made.letter is not None
    assert CODEC.dead_letter(made.letter.value).redriven_ms == NOW_MS


async def test_what_cannot_be_brought_back_is_counted() -> None:
    """No letter, and a letter of which nothing can be made."""
    cut = replace(FAILED, delivery=None, digest=b"d", value=b"first part")
    made = await brought(at(4, b"noise"), at(5, cut), states={"dl_1": LetterState.WAITING})
    assert [(one.unreadable, one.bound) for one in made] == [(True, ()), (True, ())]


async def test_a_letter_that_lies_twice_in_the_window_goes_once() -> None:
    """Where the log has it; a place beyond the window is no reason to leave it out."""
    waiting = {"dl_1": LetterState.WAITING}
    made = await brought(at(5, FAILED), at(9, FAILED), states=waiting, offset=9)
    assert [len(one.bound) for one in made] == [0, 1]
    (made_here,) = await brought(at(5, FAILED), states=waiting, offset=99)
    assert len(made_here.bound) == 1


async def test_a_letter_that_the_log_does_not_have_is_left_alone() -> None:
    """How it stands is not known: its tenant may be gone."""
    (made,) = await brought(at(5, FAILED), states={})
    assert made == Made(at(5, FAILED))
