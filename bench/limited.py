"""One endpoint that takes 10 requests a second and has a backlog of 100,000, beside healthy ones.

Healthy windows before the burst are compared with those of the measured minutes, which begin when every delivery of
the backlog has either been sent or been given a place on the ladder. The windows are no interleaved pairs: a backlog
cannot be switched off. The burst itself (a hundred thousand events at once through one router) is told, not judged.

- per minute: what the endpoint received in each whole minute.
- order: each delivery's slot is that of its last record on the ladder. An arrival is *late* if more than `NEIGHBOURS`
  places before it one with a later slot had come: what is in flight together may arrive in any order. `swapped_share`
  tells of pairs of neighbours that came in the other order.
- hops: a wait is what lies between two records of `deliveries`. Of a wait that has ended its records on tiers are
  counted, of one that has not those that its `wait-ms` will take.
- writes: the records of a delivery on `deliveries`, the tiers and `attempts`. For what still waits: so many as it has,
  those that its wait will take, and so on in steps of an hour until its slot. `writes_done` counts only what has ended.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from statistics import mean, median

from confluent_kafka import Message

from bench.children import Receiver
from bench.following import Follower
from bench.neighbours import HEALTHY, WARM, Healthy, Measured, Times, Window, healthy
from bench.rig import Rig, rig, say
from pipeline.flow.retry import Ladder
from pipeline.kafka import topics

BACKLOG, RATE, MINUTES = 100_000, 10.0, 3
NEIGHBOURS = 16
"""As many as an endpoint gets at a time."""
TENANT = "limited"
_NUMBER = re.compile(rb"limited-(\d+)")
_ALONE, _WINDOW_S = 6, 5.0
_SOON = 500
"""Deliveries of the backlog that need have neither been sent nor be on the ladder: they wait in memory."""
_PATIENCE_S = 240.0
_HOUR_MS = 3_600_000

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, order=True)
class Written:
    """One record of a delivery, in the order of writing; the wait and the slot as its headers say (ms)."""

    hop: int
    topic: str
    wait_ms: int
    slot_ms: int
    append_ms: int


@dataclass(slots=True)
class Book:
    """What has been written for whom."""

    limited: defaultdict[int, list[Written]] = field(default_factory=lambda: defaultdict(list))
    attempts: Counter[int] = field(default_factory=Counter)
    healthy: int = 0
    """Records for the healthy ones."""

    def note(self, message: Message) -> None:
        """One record."""
        if (message.key() or b"").startswith(HEALTHY.encode()):
            self.healthy += 1
        elif (found := _NUMBER.search(message.value() or b"")) is not None:
            self._note(int(found[1]), message)

    def _note(self, number: int, message: Message) -> None:
        if message.topic() == topics.ATTEMPTS:
            self.attempts[number] += 1
            return
        held = dict(message.headers() or ())
        hop, wait_ms, slot_ms = (int(held[name] or b"0") for name in ("hop", "wait-ms", "slot-ms"))
        self.limited[number].append(Written(hop, message.topic() or "", wait_ms, slot_ms, message.timestamp()[1]))


async def run(rate: float, backlog: int, folder: Path) -> Figures:
    """All figures of the case."""
    endpoint = Receiver.start()
    try:
        async with rig(folder) as flow, healthy(flow, rate) as here:
            await flow.add(TENANT, [f"http://127.0.0.1:{endpoint.port}/"], rate=RATE)
            ladder, book = Ladder.parse(flow.settings.ladder), Book()
            tiers = tuple(tier.topic for tier in ladder.tiers)
            with Follower(flow.settings, tiers, book.note).following():  # now: the tiers are trimmed
                alone = [await Window.lasting(_WINDOW_S) for _ in range(_ALONE)]
                burst = await _burst(flow, endpoint, book, here, backlog)
                beside, minutes = await _minutes()
            times, missing = await here.end()
            arrivals: Times = endpoint.ask("times")["times"]
            sent = here.receiver.ask("count")["requests"]
            say("counting records")
            await asyncio.to_thread(Follower(flow.settings, (topics.DELIVERIES, topics.ATTEMPTS), book.note).read)
    finally:
        endpoint.stop()
    return {
        **_others([Measured.of(window, times) for window in alone], [Measured.of(window, times) for window in beside]),
        "burst_p99_ms": round(Measured.of(burst, times).p99_ms, 1),
        "missing": missing,
        **_rates(minutes, arrivals),
        **_order(book, arrivals),
        **_records(book, ladder),
        "healthy_writes": round(book.healthy / (sent + WARM), 3),
    }


def missed(figures: Figures) -> list[str]:
    """The floors that were not met, besides those of every case."""
    most = {"late": 0, "hops_mean": 8, "hops_max": 12, "writes_mean": 12, "writes_done": 12, "healthy_writes": 2.1}
    lines = [
        f"limited: {name} is {figures[name]}; at most {limit}" for name, limit in most.items() if figures[name] > limit
    ]
    if not 0.95 <= figures["least_rate"] <= figures["most_rate"] <= 1.05:
        lines.append(
            f"limited: {figures['least_rate']} to {figures['most_rate']} of its rate; the floor is 0.95 to 1.05"
        )
    return lines


async def _burst(flow: Rig, endpoint: Receiver, book: Book, here: Healthy, backlog: int) -> Window:
    """All of the backlog at once; returns when each delivery has been sent or waits on the ladder."""
    begun = Window(time.time_ns(), 0)
    events = await asyncio.to_thread(lambda: [flow.event(TENANT, number) for number in range(backlog)])
    await flow.load(events)
    say(f"{backlog:,} events for one endpoint of {RATE:.0f}/s")
    until = time.monotonic() + _PATIENCE_S
    while (placed := len({*book.limited, *(n for n, _, _ in endpoint.ask("times")["times"])})) < backlog - _SOON:
        if time.monotonic() > until:
            raise TimeoutError(f"{placed} of {backlog} deliveries have been sent or have a place on the ladder")
        await asyncio.sleep(1)
    window = Window(begun.begin, time.time_ns())
    say(f"all have their places after {(window.end - window.begin) / 1e9:.0f} s")
    await here.settle(5)
    return window


async def _minutes() -> tuple[list[Window], list[Window]]:
    """The healthy ones' windows, and the whole minutes that they fill."""
    windows, minutes = [], []
    for number in range(MINUTES):
        say(f"minute {number + 1} of {MINUTES}")
        begun = time.time_ns()
        while (left_s := 60 - (time.time_ns() - begun) / 1e9) > 0:
            windows.append(await Window.lasting(min(_WINDOW_S, left_s)))
        minutes.append(Window(begun, begun + 60_000_000_000))
    return [window for window in windows if window.end - window.begin > _WINDOW_S * 1e9 / 2], minutes


def _others(alone: Iterable[Measured], beside: Iterable[Measured]) -> Figures:
    before, after = list(alone), list(beside)
    per_s, p99_ms = median(one.per_s for one in before), median(one.p99_ms for one in before)
    return {
        "throughput_ratio": round(median(one.per_s for one in after) / per_s, 3),
        "p99_ratio": round(median(one.p99_ms for one in after) / p99_ms, 3),
        "alone_p99_ms": round(p99_ms, 1),
        "beside_p99_ms": round(median(one.p99_ms for one in after), 1),
    }


def _rates(minutes: Iterable[Window], arrivals: Times) -> Figures:
    """Of its rate, in the slowest and the quickest minute."""
    counts = [sum(minute.begin <= came < minute.end for _, _, came in arrivals) for minute in minutes]
    return {"least_rate": round(min(counts) / 60 / RATE, 3), "most_rate": round(max(counts) / 60 / RATE, 3)}


def _order(book: Book, arrivals: Times) -> Figures:
    ordered = [slot for n, _, _ in arrivals if (slot := _slot(book.limited[n]))]
    swapped = sum(later < earlier for earlier, later in pairwise(ordered))
    late, highest = 0, 0
    for place, slot in enumerate(ordered):
        highest = max(highest, ordered[place - NEIGHBOURS] if place >= NEIGHBOURS else 0)
        late += slot < highest
    return {"late": late, "swapped_share": round(swapped / max(len(ordered) - 1, 1), 4)}


def _slot(written: Iterable[Written]) -> int:
    """The last slot that a delivery was given on the ladder; 0: none."""
    return max(written, default=Written(0, "", 0, 0, 0)).slot_ms


def _records(book: Book, ladder: Ladder) -> Figures:
    """Hops of all waits; writes of all deliveries."""
    hops: list[int] = []
    done, planned = [], []
    for number, records in book.limited.items():
        waits, more = _waits(sorted(records), ladder)
        hops += waits
        if book.attempts[number]:
            done.append(len(records) + book.attempts[number])
        planned.append(len(records) + (book.attempts[number] or more + 1))
    return {
        "delivered": len(done),
        "hops_mean": round(mean(hops), 2) if hops else 0.0,
        "hops_max": max(hops, default=0),
        "writes_done": round(mean(done), 2) if done else 0.0,
        "writes_mean": round(mean(planned), 2) if planned else 0.0,
    }


def _waits(records: list[Written], ladder: Ladder) -> tuple[list[int], int]:
    """The hops of each of a delivery's waits, and how many records are still to come before its attempt."""
    hops, more = [], 0
    for waits, group in groupby(records, lambda one: one.topic != topics.DELIVERIES):
        if waits:
            tiers = list(group)
            hops.append(len(tiers))
    if records and records[-1].topic != topics.DELIVERIES:
        last = records[-1]
        hops[-1] += (rest := _walk(ladder, last.wait_ms) - 1)
        more = rest + 1
        left_ms = last.slot_ms - last.append_ms - last.wait_ms
        while left_ms > ladder.tiers[0].wait_ms:
            step = min(left_ms // ladder.tiers[0].wait_ms * ladder.tiers[0].wait_ms, _HOUR_MS)
            more, left_ms = more + _walk(ladder, step) + 1, left_ms - step
    return hops, more


def _walk(ladder: Ladder, wait_ms: int) -> int:
    """Tiers that a wait goes through."""
    steps = 0
    while wait_ms > 0:
        wait_ms -= ladder.next_tier(wait_ms).wait_ms
        steps += 1
    return steps
