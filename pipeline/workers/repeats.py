"""The one set against repeats: which deliveries this process works on, and which attempts it knows to be made.

A round of a delivery (its id and `round`) is worked on by one copy at a time, and its attempts are counted: a copy
whose attempt is not higher than the last that was made is a repeat, whatever its hop. What follows an attempt (its
`next`) is either durable, or *owed* to one record that is still to be read: the very one that the attempt answers, or
the carrier that stands for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from pipeline.flow.deliver import Carriage, Dead, Delivery, Next, OutgoingRequest, Retry
from pipeline.ports import Record, Work

KEYS = 200_000
"""How many rounds of deliveries a process remembers."""

Round = tuple[str, str]
"""Delivery id and round."""


class Made(NamedTuple):
    """An attempt: its number, what follows it, and the hop and offset of the record that it answers."""

    attempt: int
    next: Next
    hop: int
    offset: int


@dataclass(slots=True, eq=False)
class Copy:
    """One writing of a delivery, as it was read, while it is worked on.

    `request` is there while it is under way, `since_s` (monotonic) is when it began. `handed_over`: another record is
    being written that carries the delivery on; `carried`: it is durable. `then` is what is owed to this copy.
    """

    round: Round
    record: Record
    delivery: Delivery
    carriage: Carriage
    work: Work
    request: OutgoingRequest | None = None
    since_s: float = 0.0
    handed_over: bool = False
    carried: bool = False
    then: Next | None = None
    end: asyncio.Future[None] | None = None
    """Done when whoever waits for this copy may look again; there only if somebody waits."""


class Standing(Enum):
    """What is to be done with a copy."""

    FIRST = auto()
    """Make its attempt."""
    OWED = auto()
    """Its attempt was made: carry `then` out."""
    REPEAT = auto()
    """Nothing: all that it would cause is durable, or another's to cause."""
    BUSY = auto()
    """Another copy of the round is being worked on: wait for its end."""


class Repeats:
    """Remembers `keys` rounds, and as many attempts whose `next` is owed; those being worked on besides."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._last: OrderedDict[Round, int] = OrderedDict()
        self._owed: OrderedDict[Round, Made] = OrderedDict()
        self._under_way: dict[Round, Copy] = {}

    @property
    def under_way(self) -> Collection[Copy]:
        """What is being worked on."""
        return self._under_way.values()

    def begin(self, copy: Copy) -> Standing:
        """Judge a copy. If it is `FIRST` or `OWED` it is worked on from now until `finish`, `owe` or `give_up`."""
        attempt = copy.delivery.attempt
        if (other := self._under_way.get(copy.round)) is not None:
            repeated = other.carried and copy.carriage.stands_for is None and attempt <= other.delivery.attempt
            return Standing.REPEAT if repeated else Standing.BUSY
        standing = Standing.FIRST
        if (made := self._owed.get(copy.round)) is not None and attempt <= made.attempt:
            if attempt < made.attempt or not _owed_to(copy, made):
                return Standing.REPEAT
            copy.then, standing = made.next, Standing.OWED
        elif attempt <= self._last.get(copy.round, 0):
            return Standing.REPEAT
        self._under_way[copy.round] = copy
        return standing

    async def turn(self, copy: Copy) -> Standing:
        """As `begin`, once nothing else of the round is being worked on."""
        while (standing := self.begin(copy)) is Standing.BUSY:
            other = self._under_way[copy.round]
            if other.end is None:
                other.end = asyncio.get_running_loop().create_future()
            await asyncio.shield(other.end)
        return standing

    def knows(self, copy: Copy) -> bool:
        """Whether the copy's attempt is being made or was made."""
        made = self._owed.get(copy.round)
        last = max(self._last.get(copy.round, 0), made.attempt if made else 0)
        return copy.round in self._under_way or copy.delivery.attempt <= last

    def finish(self, copy: Copy) -> None:
        """The attempt and what follows it are durable."""
        self._remember(copy.round, copy.delivery.attempt)
        if self._owed:
            self._owed.pop(copy.round, None)
        self._end(copy)

    def owe(self, copy: Copy, then: Next) -> None:
        """The attempt is durable; what follows it is the carrier's to cause, or the next owner's."""
        made = Made(copy.delivery.attempt, then, copy.carriage.hop, copy.record.offset)
        self._note(copy.round, made)
        self._end(copy)

    def learn(self, round_: Round, made: Made) -> None:
        """An attempt found in `attempts`: what follows it may be durable or not. What is known here stands."""
        last = self._last.get(round_, 0)
        if made.attempt > last or (made.attempt == last and round_ in self._owed):
            self._note(round_, made)

    def carry(self, copy: Copy) -> None:
        """The record that carries the copy's delivery on is durable: further copies of its attempt are repeats."""
        copy.carried = True
        self._wake(copy)

    def give_up(self, copy: Copy) -> None:
        """The copy is not finished and will not be: whoever waits for it takes its place."""
        self._end(copy)

    def _note(self, round_: Round, made: Made) -> None:
        self._remember(round_, made.attempt)
        self._owed.pop(round_, None)
        if isinstance(made.next, Retry | Dead):
            self._owed[round_] = made
            if len(self._owed) > self._keys:
                self._owed.popitem(last=False)

    def _remember(self, round_: Round, attempt: int) -> None:
        self._last[round_] = attempt
        if attempt > 1:
            self._last.move_to_end(round_)
        if len(self._last) > self._keys:
            self._last.popitem(last=False)

    def _end(self, copy: Copy) -> None:
        del self._under_way[copy.round]
        if copy.end is not None:
            self._wake(copy)

    @staticmethod
    def _wake(copy: Copy) -> None:
        if copy.end is not None:
            copy.end.set_result(None)
            copy.end = None


def _owed_to(copy: Copy, made: Made) -> bool:
    return copy.record.offset == made.offset or copy.carriage.stands_for == made.hop
