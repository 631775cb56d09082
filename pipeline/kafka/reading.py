"""A reader of a replay: reads what is left of the window for some of its webhooks, and writes their deliveries in turn.

A position is noted when every report of what was written before it has come; a reader that ends anywhere in between
begins again at the last one, and writes the same deliveries again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pipeline.errors import Unreachable
from pipeline.flow.pace import Holding, Turns
from pipeline.flow.replay import DEFAULT_RATE, Span
from pipeline.kafka.pacing import Paces
from pipeline.kafka.publisher import Publisher, Report
from pipeline.ports import Outgoing, Record, Work
from pipeline.workers.matching import Bound, Made, Making
from pipeline.workers.replaying import Course, Looked, Positions, share_of

LOOK_S = 0.2
"""Whoever waits looks so often whether the replay is to stop, or its webhook takes more again."""
MOST_READERS = 64
"""Over all replays of the process: each is a client of Kafka's. The half of them may be there for slow webhooks."""
_BATCH = 500
_NOTE_S, _NOTED_TOGETHER = 0.5, 1_000
"""A position is noted so often, and at the latest after so many deliveries."""
_UNREPORTED_BYTES = 16 * 1024 * 1024
_LAST_S = 2.0
"""How long a replay that is to stop waits for its last reports: less than a partition that is given up has."""
_AGAIN_S = 0.5
_WORTH_SAYING_S = 2.0

T = TypeVar("T")


class Window(Protocol):
    """What is left of a window (`pipeline.kafka.scan.Scan`)."""

    next: dict[int, int]

    @property
    def gone(self) -> int:
        """How many offsets of the window were no longer there."""

    @property
    def over(self) -> bool:
        """Whether all has been given out."""

    async def read(self, limit: int, wait_s: float) -> list[Record]:
        """The next ones; none when nothing came within the wait. Raises `Unreachable`."""


@dataclass(slots=True)
class Parts:
    """What all replays of the process share, and what they come to.

    `held` says why none may write at present. `readers` are there now, `deliveries` have been written.
    """

    publisher: Publisher
    paces: Paces
    held: Callable[[], str | None]
    readers: int = 0
    deliveries: int = 0


@dataclass(slots=True, eq=False)
class Run:
    """One replay at work, as its readers share it. `superseded`: a newer record of its order has come.

    `gone` is how many offsets of the window were no longer there, as one reader has found it.
    `opened` opens what is left of its window; `making` makes deliveries for the webhooks of some of its shares.
    """

    course: Course
    work: Work
    parts: Parts
    opened: Callable[[Sequence[Span]], AbstractAsyncContextManager[Window]]
    making: Callable[[frozenset[int]], Making]
    superseded: bool = False
    gone: int = 0
    readers: list[Reader] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)

    @property
    def going(self) -> bool:
        """Whether it is still this process's to run."""
        return self.work.open and not self.superseded

    @property
    def rate(self) -> float:
        """Deliveries a second, at most."""
        return self.course.order.rate or DEFAULT_RATE

    def unusable(self, shares: Iterable[int]) -> Mapping[int, str]:
        """Those of the shares that have to wait, since a webhook that the order names cannot be sent to; and why."""
        order, held = self.course.order, frozenset(shares)
        paths = [f"{order.tenant}/{webhook}" for webhook in order.webhooks] if order.tenant else []
        found = ((share_of(path, self.course.shares), path) for path in paths)
        return {share: reason for share, path in found if share in held and (reason := self.parts.paces.unusable(path))}

    def add(self, shares: frozenset[int], positions: Positions) -> None:
        """Another reader is needed."""
        self.readers.append(Reader(self, shares, positions))


@dataclass(slots=True, eq=False)
class Reader:
    """Reads for some shares from these positions on. `waiting` is why it writes nothing at present."""

    run: Run
    shares: frozenset[int]
    at: Positions
    waiting: str | None = None
    moved_s: float = field(default_factory=time.monotonic)
    _looked: Looked = field(default_factory=Looked)
    _reports: set[asyncio.Future[Report]] = field(default_factory=set)
    _letters: list[Outgoing] = field(default_factory=list)
    _holding: dict[int, Holding] = field(default_factory=dict)
    _noted_s: float = field(default_factory=time.monotonic)

    async def __call__(self) -> None:
        """Until the window is over, or the replay is to stop; all that was noted is durable."""
        while self.run.going and (left := self.run.course.spans(self.at)):
            async with AsyncExitStack() as stack:
                window = await self._answered(stack.enter_async_context(self.run.opened(left)))
                if window is not None:
                    await self._read(window)
        await self._note()

    async def _read(self, window: Window) -> None:
        """Until it is over, or gives no more: what a failed reading had in hand is read again from where it was."""
        while self.run.going and not window.over:
            self.moved_s = time.monotonic()
            records = await self._answered(window.read(_BATCH, LOOK_S))
            if records is None or not await self._wrote_all(records):
                return
            self.at.update(window.next)
            self.run.gone = max(self.run.gone, window.gone)
            await self._note_in_time()

    async def _answered(self, asked: Awaitable[T]) -> T | None:
        """None when Kafka does not answer; then a moment has passed."""
        try:
            return await asked
        except Unreachable as error:
            await self._pause(str(error), _AGAIN_S)
            return None

    async def _wrote_all(self, records: Sequence[Record]) -> bool:
        """Write what these come to; False if the replay is to stop before all has been written."""
        made = await self._made(records) if records else []
        if made is None:
            return False
        for one in made:
            if not await self._wrote(one):
                return False
            self.at[one.record.partition] = one.record.offset + 1
            self._looked.at(one.record.partition, one.record.offset, unreadable=one.unreadable)
            await self._note_in_time()
        return True

    async def _made(self, records: Sequence[Record]) -> list[Made] | None:
        """What they come to while every webhook that was named can be sent to; None if the replay is to stop."""
        while self.run.going:
            made = await self._tried(records) if await self._usable() else None
            if made is not None and not self.run.unusable(self.shares):  # nor has one become so since
                return made
        return None

    async def _usable(self) -> bool:
        unusable = self.run.unusable(self.shares)
        await self._leave(unusable)
        if left := [reason for share, reason in unusable.items() if share in self.shares]:
            await self._pause(left[0])
        return not left

    async def _tried(self, records: Sequence[Record]) -> list[Made] | None:
        """None when it has to be tried again: somebody who was asked does not answer, or the replay is to stop."""
        making = asyncio.ensure_future(self.run.making(self.shares)(records))
        while not making.done() and self.run.going:
            await asyncio.wait({making}, timeout=LOOK_S)
        if not making.done():
            making.cancel()
            return None
        try:
            made = making.result()
        except Unreachable as error:
            await self._pause(str(error), _AGAIN_S)
            return None
        self.waiting = None
        return made

    async def _wrote(self, made: Made) -> bool:
        await self._leave([share for share in self._shares_of(made) if self._is_slow(share, made)])
        mine = [one for one in made.bound if self._share(one) in self.shares]
        for one in mine:
            if not await self._its_turn(one):
                return False
            self._reports.add(self.run.parts.publisher.publish(one.out))
        for one in mine:
            self._looked.wrote(one.bytes)
        self.run.parts.deliveries += len(mine)
        if mine and made.letter is not None:
            self._letters.append(made.letter)
        return True

    async def _its_turn(self, one: Bound) -> bool:
        """Wait for it; False if the replay is to stop."""
        parts, path = self.run.parts, one.path
        while (reason := self._held(path)) is not None:
            await self._pause(reason)
            if not self.run.going:
                return False
        self.waiting = None
        now_s = time.monotonic()
        own_s, its_s = self.run.turns.take(now_s, self.run.rate), parts.paces.take(path)
        self._holding.setdefault(self._share(one), Holding()).add(now_s, max(its_s - max(own_s, now_s), 0.0))
        return await self._until(max(own_s, its_s))

    def _held(self, path: str) -> str | None:
        if (reason := self.run.parts.held()) is not None:
            return reason
        if self.run.parts.publisher.unreported_bytes > _UNREPORTED_BYTES:
            return "Kafka is slower than what is written"
        if self.run.parts.paces.stopped(path):
            return f"webhook {path.partition('/')[2]} takes no more at present"
        return None

    async def _until(self, turn_s: float) -> bool:
        await asyncio.sleep(0)
        while (left_s := turn_s - time.monotonic()) > 0 and self.run.going:
            if left_s > _WORTH_SAYING_S and self._reports:
                await self._note()
            await asyncio.sleep(min(left_s, LOOK_S))
            self.moved_s = time.monotonic()
        return self.run.going

    async def _pause(self, reason: str, pause_s: float = LOOK_S) -> None:
        """It cannot go on, and is not stuck."""
        self.waiting = reason
        await self._note_in_time()
        await asyncio.sleep(pause_s)
        self.moved_s = time.monotonic()

    def _share(self, one: Bound) -> int:
        return share_of(one.by, self.run.course.shares)

    def _shares_of(self, made: Made) -> list[int]:
        return sorted({self._share(one) for one in made.bound} & self.shares) if len(self.shares) > 1 else []

    def _is_slow(self, share: int, made: Made) -> bool:
        if (holding := self._holding.get(share)) is not None and holding.too_much:
            return True
        return any(self.run.parts.paces.stopped(one.path) for one in made.bound if self._share(one) == share)

    async def _leave(self, shares: Iterable[int]) -> None:
        """Let others read for these, from here on; one share always stays, and there is an end to readers."""
        for share in shares:
            if len(self.shares) > 1 and self.run.parts.readers < MOST_READERS // 2 and await self._note():
                self.shares -= {share}
                self.run.add(frozenset({share}), dict(self.at))

    async def _note_in_time(self) -> None:
        if time.monotonic() - self._noted_s > _NOTE_S or len(self._reports) > _NOTED_TOGETHER:
            await self._note()

    async def _note(self) -> bool:
        """Wait for all reports, then note the position; False if the replay ends before they have come."""
        if not await self._reported():
            return False
        self._reports = {self.run.parts.publisher.publish(letter) for letter in self._letters}
        self._letters = []
        if not await self._reported():
            return False
        self.run.course.note(self.shares, self.at, self._looked)
        self._looked, self._noted_s = Looked(), time.monotonic()
        return True

    async def _reported(self) -> bool:
        until_s: float | None = None
        while self._reports:
            done, self._reports = await asyncio.wait(self._reports, timeout=LOOK_S)
            for report in done:
                report.result()
            if self._reports and not self.run.going:
                until_s = until_s or time.monotonic() + _LAST_S
                if time.monotonic() > until_s:
                    return False
        return True
