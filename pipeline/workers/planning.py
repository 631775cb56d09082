"""A replay's plan: what it would send, counted by reading its window. Nothing is written.

Most events are counted by their headers: of tenant and type it is known which webhooks want them. Decoded are those
without such headers, those of webhooks that look at an event's content, and where an outcome is asked for, all: the
delivery log knows events by their ids. What takes long runs in threads; the views are asked in the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.event import Event, fault
from pipeline.flow.replay import Outcome, Replay, Span
from pipeline.flow.window import Gap
from pipeline.ports import Codec, Record, Subscribers, Tenancy
from pipeline.workers.chosen import Chosen
from pipeline.workers.counting import Count, Plan, Rate, duration_s
from pipeline.workers.past import Had, Log, Pair
from pipeline.workers.router import seen_by
from pipeline.workers.sifting import Fate, Names, Sieve, Sifted, Tally, decoded

__all__ = ["Parts", "Plan", "Seen", "plan"]

PATIENCE_S = 30.0
"""So long Kafka may take for the next record."""

_LIMIT, _WAIT_S = 1_000, 0.25
"""Of ten times as many messages, all in memory, each takes twice the time."""
_TOLD_S = 0.5
_LOG_PATIENCE_S, _LOOK_S = 10.0, 0.1
"""So long the delivery log may be behind, where the plan depends on it."""
_READ_AT_ONCE = 2_000
"""Decoded events take many times the memory of their records; and of so many the log tells within its deadline."""
_MOST_FATES = 100_000


class Scanning(Protocol):
    """Reads a window (`pipeline.kafka.scan.Scan`). `taken`: how many offsets were no longer there, by partition."""

    next: dict[int, int]
    taken: dict[int, int]

    @property
    def over(self) -> bool:
        """Whether all has been given out."""

    def sift(self, limit: int, wait_s: float, fates: Mapping[Names, Fate]) -> Awaitable[Sifted]:
        """The next records. Raises `Unreachable`."""


async def _all_there() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a plan needs. `learn` makes the schemas of values known; `scan` reads a window; `rate` is of webhooks.

    `subscribers` are as new as the plan is to be; with a replay's own endpoint, if it has one. `recorded` says what the
    delivery log still lacks of what was there when it was first asked; None: nothing.
    """

    codec: Codec
    learn: Callable[[Sequence[bytes | None]], Awaitable[None]]
    subscribers: Subscribers
    scan: Callable[[Sequence[Span]], AbstractAsyncContextManager[Scanning]]
    log: Log
    rate: Rate
    recorded: Callable[[], Awaitable[str | None]] = _all_there


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a plan is: records looked at, of at most so many; `next` by partition."""

    scanned: int
    of: int
    deliveries: int
    next: Mapping[int, int]
    seconds: float


async def plan(
    parts: Parts, order: Replay, on_progress: Callable[[Seen], None] = lambda _: None, gap: Gap | None = None
) -> Plan:
    """What the order would send, with the subscriptions as they are now. `gap` is its window's.

    `on_progress` is told twice a second, in the event loop. Raises `Unreachable` when Kafka does not answer; where an
    outcome is asked for also when the delivery log does not, or is behind.
    """
    return await _Planning(parts, order, on_progress)(gap)


@dataclass(slots=True)
class _Match:
    """A record of the window, and to whom it goes; `untold`: of some that is not known, or nothing can be read."""

    record: Record
    event: Event | None
    webhooks: Sequence[str] = ()
    untold: bool = False

    @property
    def tally(self) -> Tally:
        """Of this one."""
        at_ms = self.record.timestamp_ms
        return Tally(1, len(self.record.value or b""), at_ms, at_ms)


class _Planning:
    def __init__(self, parts: Parts, order: Replay, on_progress: Callable[[Seen], None]) -> None:
        self._parts, self._order, self._on_progress = parts, order, on_progress
        self._sieve = Sieve.of(order.tenant, order.types)
        every = parts.subscribers
        self._subscribers = Chosen(every, frozenset(order.webhooks)) if order.webhooks else every
        self._fates: dict[Names, Fate] = {}
        self._wanting: dict[Pair, tuple[str, ...]] = {}
        self._tallies: dict[Pair, Tally] = {}  # of what is counted undecoded, which goes to those that want it
        self._count, self._had = Count(), Had(parts.log, order)
        self._scanned, self._begun = 0, time.monotonic()

    async def __call__(self, gap: Gap | None) -> Plan:
        if self._order.outcome is not Outcome.ALL:
            await self._recorded()
        async with self._parts.scan(self._order.window) as scan:
            await self._read_all(scan)
            gap = _with_taken(gap, scan.taken)
        await self._had.add_counted(self._tallies, self._wanting)
        for (tenant, event_type), tally in self._tallies.items():
            self._count.add(tenant, event_type, self._wanting[tenant, event_type], tally)
        seconds = duration_s(self._count.by_webhook, self._order.rate, self._parts.rate)
        return self._count.plan(self._scanned, self._had.again, seconds, gap, self._had.by_outcome)

    async def _recorded(self) -> None:
        """Return when the log knows what has become of what was sent so far: until then it would say too little."""
        until = time.monotonic() + _LOG_PATIENCE_S
        while (missing := await self._parts.recorded()) is not None:
            if time.monotonic() > until:
                raise Unreachable(f"{missing}: try again")
            await asyncio.sleep(_LOOK_S)

    async def _read_all(self, scan: Scanning) -> None:
        heard = told = time.monotonic()
        while not scan.over:
            part = await scan.sift(_LIMIT, _WAIT_S, self._fates)
            await self._take(part)
            now = time.monotonic()
            heard = now if part.scanned or part.unknown else heard
            if now - heard > PATIENCE_S:
                raise Unreachable(f"Kafka has not given a record of the window within {PATIENCE_S:g} s")
            if now - told > _TOLD_S:
                told = now
                self._tell(scan)

    def _tell(self, scan: Scanning) -> None:
        counted = sum(tally.events * len(self._wanting[pair]) for pair, tally in self._tallies.items())
        most = sum(span.end - span.start for span in self._order.window)
        deliveries, seconds = counted + self._count.by_type.total(), time.monotonic() - self._begun
        self._on_progress(Seen(self._scanned, most, deliveries, dict(scan.next), seconds))

    async def _take(self, part: Sifted) -> None:
        self._scanned += part.scanned
        for names, tally in part.counted.items():
            if (texts := decoded(names)) is not None:
                self._add(texts, tally)
        if len(self._fates) > _MOST_FATES:
            self._fates.clear()
        for names in part.unknown:
            texts = decoded(names)
            self._fates[names] = Fate.READ if texts is None else self._fate(*texts)
        for start in range(0, len(part.read), _READ_AT_ONCE):
            await self._read(part.read[start : start + _READ_AT_ONCE])

    def _add(self, pair: Pair, tally: Tally) -> None:
        if (held := self._tallies.get(pair)) is None:
            self._tallies[pair] = tally
        else:
            held.add(tally)

    def _fate(self, tenant: str, event_type: str) -> Fate:
        """Of all events of that tenant and type."""
        if not self._sieve(tenant, event_type):
            return Fate.SKIP
        tenancy = self._tenancy(tenant)
        if tenancy is None or tenancy.unreadable or not tenancy.profile.catalogue.knows(event_type):
            return Fate.READ
        if not (webhooks := tenancy.wanting(event_type)):
            return Fate.SKIP
        if self._order.outcome is not Outcome.ALL or not tenancy.contents.keys().isdisjoint(webhooks):
            return Fate.READ
        self._wanting[tenant, event_type] = webhooks
        return Fate.COUNT

    def _tenancy(self, tenant: str) -> Tenancy | None:
        try:
            return self._subscribers.of(tenant)
        except Undecodable:
            return None

    async def _read(self, records: Sequence[Record]) -> None:
        """Those that must be decoded."""
        await self._parts.learn([record.value for record in records])
        read = await asyncio.to_thread(self._decoded, records)
        tenancies = {one.event.tenant: self._tenancy(one.event.tenant) for one in read if one.event is not None}
        await asyncio.to_thread(_match, read, tenancies)
        self._count.unreadable += sum(one.untold for one in read)
        await self._judge([(one, one.event) for one in read if one.event is not None and one.webhooks])

    async def _judge(self, read: Sequence[tuple[_Match, Event]]) -> None:
        """Those that a webhook wants: of a kind that is counted by headers, as if theirs had told."""
        fates = {pair: self._fate(*pair) for pair in {(event.tenant, event.type) for _, event in read}}
        rest: list[tuple[_Match, Event]] = []
        for one, event in read:
            pair = event.tenant, event.type
            if fates[pair] is Fate.COUNT and not one.untold:
                self._add(pair, one.tally)
            else:
                rest.append((one, event))
        known = await self._had.known(event for _, event in rest)
        for one, event in rest:
            to = self._had.chosen(event, one.webhooks, known)
            self._count.add(event.tenant, event.type, to, one.tally)

    def _decoded(self, records: Iterable[Record]) -> list[_Match]:
        """Those that the order means; and those that cannot be read."""
        made = []
        for record in records:
            try:
                event = self._parts.codec.event(record)
            except Undecodable:
                made.append(_Match(record, None, untold=True))
            else:
                if self._sieve(event.tenant, event.type):
                    made.append(_Match(record, event))
        return made


def _match(read: Iterable[_Match], tenancies: Mapping[str, Tenancy | None]) -> None:
    """As the router does it, but that nothing is made of it."""
    for one in read:
        if (event := one.event) is None:
            continue
        tenancy = tenancies[event.tenant]
        if tenancy is None or fault(event) or tenancy.profile.refusal(event):
            one.untold = True
            continue
        untold = list(tenancy.unreadable)
        one.webhooks = [webhook for webhook, _ in seen_by(tenancy.wanting(event.type), event, tenancy, untold)]
        one.untold = bool(untold)


def _with_taken(gap: Gap | None, taken: Mapping[int, int]) -> Gap | None:
    """What retention has taken since the window was found as well."""
    if not taken:
        return gap
    held = gap or Gap((), None, None, 0)
    records = None if held.records is None else held.records + sum(taken.values())
    return Gap(tuple(sorted({*held.partitions, *taken})), held.from_ms, held.oldest_ms, records)
