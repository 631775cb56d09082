"""A world of one endpoint, a ladder and a sender's memory, in simulated time: what a lane decides comes true in it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from pipeline.flow.isolation import Lane
from pipeline.flow.retry import DEFAULT, Ladder

LADDER = Ladder.parse(DEFAULT)
LATE_MS = 150.0
MOST_AT_A_LOOK = 20


@dataclass(slots=True)
class Sent:
    """A delivery on its way: when it came first, its slot, its writes to tiers, when it was sent (ms)."""

    number: int
    came_ms: float
    slot_ms: float = 0.0
    waits: list[int] = field(default_factory=list)
    sent_ms: float | None = None


Answer = Callable[[float], tuple[float, bool]]
"""How long a request that begins now takes (ms), and whether it fails."""


class World:
    """Runs a lane. `answer` is the endpoint; the ladder is late by up to `LATE_MS`."""

    def __init__(self, lane: Lane[Sent], answer: Answer) -> None:
        self.lane, self.answer = lane, answer
        self.now = 1_000_000.0
        self.sent: list[Sent] = []
        self.most_held = 0
        self._wakes_ms = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers, self._random = count(), random.Random(7)  # noqa: S311 - a simulation

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Let something happen."""
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def arrive(self, every_ms: float, number: int) -> None:
        """So many new deliveries, evenly from now on."""
        for n in range(number):
            one = Sent(n, self.now + n * every_ms)
            self.at(one.came_ms, partial(self._enter, one))

    def run(self, until_ms: float) -> None:
        """Go on until then."""
        while self._events and self._events[0][0] <= until_ms:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = max(self.now, until_ms)

    def look(self, every_ms: float = 50.0) -> None:
        """Look after what is held, now and then, as the sender does."""
        for one in self.lane.overflow(self.now, MOST_AT_A_LOOK):
            self._sleep(one, self.lane.reserve(self.now, far=True))
        self._pump()
        self.at(self.now + every_ms, self.look)

    def _enter(self, one: Sent) -> None:
        slot_ms = self.lane.enter(self.now, one.slot_ms)
        if not slot_ms:
            self._send(one)
        elif slot_ms > self.lane.soon(self.now):
            self._sleep(one, slot_ms)
        else:
            self.lane.hold(slot_ms, one)
            self.most_held = max(self.most_held, len(self.lane.held))
            self._pump()

    def _sleep(self, one: Sent, slot_ms: float) -> None:
        hop = sum(hops(wait) + 1 for wait in one.waits)
        wait = self.lane.sleep_ms(self.now, slot_ms, hop, LADDER)
        one.slot_ms = int(slot_ms)
        one.waits.append(wait)
        self.at(self.now + wait + self._random.random() * LATE_MS, lambda: self._enter(one))

    def _send(self, one: Sent) -> None:
        one.sent_ms, begun = self.now, self.now
        self.sent.append(one)
        lasts, failed = self.answer(self.now)
        self.at(self.now + lasts, lambda: self._leave(begun, lasts, failed))

    def _leave(self, begun: float, lasts: float, failed: bool) -> None:  # noqa: FBT001
        self.lane.leave(self.now, begun, lasts, failed=failed)
        self._pump()

    def _pump(self) -> None:
        while (one := self.lane.next(self.now)) is not None:
            self._send(one)
        wake = self.lane.wake_ms(self.now)
        if wake is not None and wake > self.now and not self.now < self._wakes_ms <= wake:
            self._wakes_ms = wake
            self.at(wake, self._pump)


def hops(wait_ms: int) -> int:
    """The tiers that a wait is walked in, largest first."""
    walked = 0
    while wait_ms:
        walked, wait_ms = walked + 1, wait_ms - LADDER.next_tier(wait_ms).wait_ms
    return walked
