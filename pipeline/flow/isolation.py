"""One endpoint's lane: what may be sent to it now, and when it is the turn of what may not.

An endpoint has one number, its *capacity*: how many requests it takes in a time. A delivery that cannot go now gets a
*slot*, the moment of its turn. One that comes within the smallest tier is held in memory; until a later one the
delivery waits on the ladder, burns no attempt and holds nothing here. All that was given away is one number too, the
end of the reserved time: a million deliveries of a dead endpoint cost no more than one.

Pure: times are arguments, in milliseconds, all by one clock.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from pipeline.flow.breaker import Breaker
from pipeline.flow.retry import Ladder

IN_FLIGHT = 16
"""Requests to one endpoint at a time, unless its webhook says fewer."""
_AT_FIRST = 2
"""So many at a time until one has succeeded."""
_MORE, _MORE_AGAIN = 3, 1
"""How many more each success allows, before the first failure and after one. Each failure halves."""
_GUESS_MS = 50.0
"""What a request is taken to last before one has ended."""
_SHORTEST_MS = 1.0
_WEIGHT = 0.2
"""Of the newest request in the mean duration."""
_SPARE_MS = 500.0
"""A limited rate makes up for so much time that it did not use."""
LONGEST_MS = 3_600_000
"""A reservation sleeps no longer; then the settings in force judge it anew."""
_GUESSED_TIERS, _WRITES = 12, 6
"""While an endpoint is sick its capacity, and so every slot, is a guess: who waits for one looks again this soon at
first, then after twice as long each time (a time is so many writes), up to the longest. So what came during an outage
is not kept for long after it."""
_ON_THE_WAY = 2
"""A slot that is an estimate is looked at again half-way at the latest."""
_LATE = 20
"""The ladder may be late by this part of the smallest tier: whoever waits on it comes so much earlier."""

T = TypeVar("T")


class Held(NamedTuple, Generic[T]):
    """What waits in memory: in the order of slots, then of arrival."""

    slot_ms: float
    number: int
    item: T


@dataclass(slots=True)
class Lane(Generic[T]):
    """One endpoint, as the process sees it that sends to it.

    `tier_ms` is the smallest tier, `rate` requests a second (None: any number), `cap` requests at a time.
    """

    tier_ms: int
    cap: int = IN_FLIGHT
    rate: float | None = None
    in_flight: int = 0
    held: list[Held[T]] = field(default_factory=list)
    reserved_until_ms: float = 0.0
    breaker: Breaker = field(init=False)
    _reserved_by: float = 0.0
    """The capacity that the reserved time was given away by."""
    _allowed: int = _AT_FIRST
    _shrunk: bool = False
    mean_ms: float = 0.0
    _moved_ms: float = 0.0
    """When a request has last ended, or the first of those in flight began."""
    _next_ms: float = 0.0
    """The earliest moment for the next request at a limited rate."""
    _count: int = 0

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.tier_ms)

    def enter(self, now: float, slot_ms: float = 0.0) -> float:
        """A delivery has come, with the slot that it had been given (0: none).

        0 when it goes now: it counts as in flight. Else the slot that it is to wait for. Who comes in or after its
        slot goes before those who come without one.
        """
        if self.rate is None and not self.held and self._free(now):
            self._start(now)  # room is never left empty for those who sleep: their slots are an estimate
            return 0.0
        if self.reserved_until_ms > now:
            self._rescale(now)
            if self.soon(now) < slot_ms < self.reserved_until_ms:
                return slot_ms  # it has slept for as long as one may; nothing has changed
        due = 0.0 < slot_ms <= self.soon(now)
        early = self.rate is not None and slot_ms > now
        ahead = not due and self.reserved_until_ms > self.soon(now)
        if not (self.held or early or ahead) and self._free(now):
            self._start(now)
            return 0.0
        if due and len(self.held) < self._room(now):
            return slot_ms
        return self.reserve(now)

    def reserve(self, now: float, *, far: bool = False) -> float:
        """The next slot that nobody has; with `far` none that would have to be waited for in memory."""
        capacity = self.capacity(now)
        slot = max(now + (len(self.held) + 1) / capacity, self.breaker.until_ms, self.reserved_until_ms)
        if far:
            slot = max(slot, self.soon(now) + 1)
        if slot > self.soon(now):
            self.reserved_until_ms, self._reserved_by = slot + 1 / capacity, capacity
        return slot

    def soon(self, now: float) -> float:
        """Until then a slot is waited for in memory: the smallest tier, and a little for what comes early from it."""
        return now + self.tier_ms * (1 + 2 / _LATE)

    def hold(self, slot_ms: float, item: T) -> None:
        """Keep an item in memory until its turn."""
        self._count += 1
        insort(self.held, Held(slot_ms, self._count, item))

    def next(self, now: float) -> T | None:
        """The item whose turn it is: it counts as in flight. None if there is none now."""
        if not self.held or not self._free(now) or (self.rate is not None and self.held[0].slot_ms > now):
            return None
        self._start(now)
        return self.held.pop(0).item

    def wake_ms(self, now: float) -> float | None:
        """When it may be the turn of what is held, if nothing ends before; None if only an end can make room."""
        if not self.held or self.in_flight >= self._most():
            return None
        return max(self._next_ms, self.breaker.until_ms, self.held[0].slot_ms if self.rate is not None else now)

    def overflow(self, now: float, most: int) -> list[T]:
        """What is held beyond what will get its turn soon, the earliest slots first; no more than `most`."""
        room = self._room(now)
        out = [held.item for held in self.held[room : room + most]]
        del self.held[room : room + most]
        return out

    def leave(self, now: float, begun: float, duration_ms: float, *, failed: bool) -> None:
        """A request has ended. `duration_ms` is what the endpoint took of the time."""
        self.in_flight -= 1
        self._moved_ms = now
        self.mean_ms += (duration_ms - self.mean_ms) * (_WEIGHT if self.mean_ms else 1.0)
        if failed:
            self._allowed, self._shrunk = max(min(self._allowed, self.cap) // 2, 1), True
        elif self._allowed < self.cap:
            self._allowed = min(self._allowed + (_MORE_AGAIN if self._shrunk else _MORE), self.cap)
            self._shrunk &= self._allowed < self.cap
        self.breaker.note(now, begun, failed=failed)

    def give_back(self) -> None:
        """What counted as in flight was not sent, or its end says nothing about the endpoint."""
        self.in_flight -= 1

    def renew(self) -> None:
        """It is another endpoint now, or its owner vouches for it: nothing that was learned counts."""
        self.breaker = Breaker(self.tier_ms)
        self.reserved_until_ms = self.mean_ms = self._next_ms = 0.0
        self._allowed, self._shrunk = _AT_FIRST, False

    def resume(self, reserved_until_ms: float, capacity: float, breaker_until_ms: float) -> None:
        """Go on where another process has left it; `capacity` is requests a second."""
        self.reserved_until_ms, self._reserved_by = reserved_until_ms, capacity / 1000
        self.breaker.until_ms = breaker_until_ms

    def capacity(self, now: float) -> float:
        """Requests per millisecond. A silence counts as a duration before it has ended."""
        silence = now - self._moved_ms if self.in_flight else 0.0
        lasts = max(self.mean_ms or _GUESS_MS, silence, _SHORTEST_MS)
        most = (self._allowed if self._shrunk else self.cap) / lasts
        return most if self.rate is None else min(most, self.rate / 1000)

    def sleep_ms(self, now: float, slot_ms: float, hop: int, ladder: Ladder) -> int:
        """How long a delivery that was written `hop` times is to wait on the ladder for a slot, which it never misses.

        At a limited rate, and behind an open breaker, a slot is a promise: whole smallest tiers, and what is left, less
        than one, is waited for in memory. Otherwise it is an estimate by a moment, not worth more than one tier.
        """
        longest = LONGEST_MS
        if self._shrunk or self.breaker.trying:
            longest = min(_GUESSED_TIERS * self.tier_ms << min(hop // _WRITES, 10), LONGEST_MS)
        if self.rate is None and not self.breaker.trying:
            return ladder.next_tier(min(longest, int(slot_ms - now) // _ON_THE_WAY)).wait_ms
        tiers = int((slot_ms - now - self.tier_ms / _LATE) // self.tier_ms)
        return max(min(tiers, longest // self.tier_ms), 1) * self.tier_ms

    @property
    def well(self) -> bool:
        """Whether its requests have succeeded of late."""
        return not self._shrunk and self._allowed > min(_AT_FIRST, self.cap - 1)

    def idle(self, now: float) -> bool:
        """Whether nothing is lost when it is forgotten."""
        return not (self.in_flight or self.held or self.breaker.trying or self.reserved_until_ms > now)

    def _start(self, now: float) -> None:
        if not self.in_flight:
            self._moved_ms = now
        self.in_flight += 1
        if self.rate is not None:
            self._next_ms = max(self._next_ms, now - _SPARE_MS) + 1000 / self.rate

    def _free(self, now: float) -> bool:
        return self.in_flight < self._most() and self._next_ms <= now and not self.breaker.is_open(now)

    def _most(self) -> int:
        return 1 if self.breaker.trying else min(self._allowed, self.cap)

    def _room(self, now: float) -> int:
        """How many may be held: what two of the smallest tier take."""
        if self.breaker.until_ms > self.soon(now):
            return 0
        return max(int(self.capacity(now) * 2 * self.tier_ms), 1)

    def _rescale(self, now: float) -> None:
        """As many as were reserved take another time by the capacity of now."""
        capacity = self.capacity(now)
        self.reserved_until_ms = now + (self.reserved_until_ms - now) * self._reserved_by / capacity
        self._reserved_by = capacity
