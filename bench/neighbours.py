"""Healthy endpoints beside bad ones: what their deliveries take, with and without the neighbours.

The healthy load is steady, a few events every ten milliseconds, at a rate that two senders carry with ease. Its
throughput is its deliveries received per second over the span from the first to the last of a window's events; its
p99 is from produced to received. A window without the neighbours and one with them make a round; a figure's ratio is
the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from bench.children import Receiver
from bench.load import Load, Stream
from bench.rig import Rig, say

ENDPOINTS = 50
"""Healthy ones; and bad ones, each of a tenant of its own."""
WARM = 15_000
_WARM_S = 3.0
_PATIENCE_S = 90.0
HEALTHY = "healthy"

Times = list[tuple[int, int, int]]
"""Of each received event: its number, when it was sent and when it was received, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time (ns since the epoch)."""

    begin: int
    end: int

    @classmethod
    async def lasting(cls, seconds: float) -> Window:
        """From now on."""
        begin = time.time_ns()
        await asyncio.sleep(seconds)
        return cls(begin, time.time_ns())


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a window's events."""

    per_s: float
    p99_ms: float

    @classmethod
    def of(cls, window: Window, times: Times) -> Measured:
        """Its events are those that were sent in it, whenever they came."""
        mine = [(sent, came) for _, sent, came in times if window.begin <= sent < window.end]
        first, last = min(came for _, came in mine), max(came for _, came in mine)
        ages = sorted((came - sent) / 1e6 for sent, came in mine)
        return cls(len(mine) / (last - first) * 1e9, ages[int(len(ages) * 0.99)])


@dataclass(slots=True)
class Healthy:
    """The healthy endpoints and their load."""

    flow: Rig
    load: Load
    receiver: Receiver

    async def settle(self, seconds: float) -> None:
        """Wait so long, and until the healthy ones are served as they come."""
        await asyncio.sleep(seconds)
        until, few = time.monotonic() + _PATIENCE_S, self.load.streams[HEALTHY].rate / 4
        while self._left(self.load.streams[HEALTHY]) > few and time.monotonic() < until:  # noqa: ASYNC110 - only the receiver knows
            await asyncio.sleep(0.25)

    async def end(self) -> tuple[Times, int]:
        """Stop the load and wait for the last; when each event came, and how many never did."""
        stream = self.load.streams.pop(HEALTHY)
        until = time.monotonic() + _PATIENCE_S
        await asyncio.sleep(0.5)
        while (left := self._left(stream)) and time.monotonic() < until:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.25)
        times: Times = [(n, sent, came) for n, sent, came in self.receiver.ask("times")["times"]]
        return times, left

    def _left(self, stream: Stream) -> int:
        """How many of its events have not been received."""
        return max(stream.sent - int(self.receiver.ask("count")["requests"]), 0)


@asynccontextmanager
async def healthy(flow: Rig, rate: float, host: str = "127.0.0.1") -> AsyncIterator[Healthy]:
    """`ENDPOINTS` of them, warmed up, with their load flowing. `host` may hold `{}` for the endpoint's number."""
    receiver = Receiver.start()
    try:
        tenants = [f"{HEALTHY}{number}" for number in range(ENDPOINTS)]
        for number, tenant in enumerate(tenants):
            await flow.add(tenant, [f"http://{host.format(number)}:{receiver.port}/{tenant}"])
        await flow.start("router-0", "sender-0", "sender-1", "delay-0")
        say("warming up")
        await flow.load([flow.event(tenants[number % ENDPOINTS], number) for number in range(WARM)])
        await receiver.received(WARM, _PATIENCE_S)  # until the JVM has compiled what it will
        receiver.ask("reset")
        with Load(flow).running() as load:
            load.streams[HEALTHY] = Stream(tenants, rate)
            here = Healthy(flow, load, receiver)
            await here.settle(_WARM_S)
            yield here
    finally:
        receiver.stop()


Neighbours = Callable[[int], Awaitable[Window]]
"""Starts the neighbours of a round, tells the window of their presence and ends them."""


@dataclass(frozen=True, slots=True)
class Round:
    """The windows of a round: they lie as close together as they can."""

    alone: Window
    beside: Window
    control: Window | None = None


async def rounds(
    here: Healthy,
    beside: Neighbours,
    *,
    count: int,
    alone_s: float,
    settle_s: float,
    control: Neighbours | None = None,
) -> list[Round]:
    """Without neighbours, with those of the control, if there is one, and with those in question; again and again."""
    made = []
    for number in range(count):
        windows = [await Window.lasting(alone_s)]
        for neighbours in (control, beside):
            if neighbours is not None:
                windows.append(await neighbours(number))
                await here.settle(settle_s)
        alone, *between, last = windows
        made.append(Round(alone, last, *between))
    return made


def compared(made: list[Round], times: Times) -> dict[str, float]:
    """The ratios, and the medians that they come from; the control's too, where there was one."""
    alone = [Measured.of(one.alone, times) for one in made]
    beside = [Measured.of(one.beside, times) for one in made]
    control = [Measured.of(one.control, times) for one in made if one.control is not None]
    figures = {
        "throughput_ratio": median(b.per_s / a.per_s for a, b in zip(alone, beside, strict=True)),
        "p99_ratio": _ratio(beside, alone),
        "alone_per_s": median(a.per_s for a in alone),
        "alone_p99_ms": median(a.p99_ms for a in alone),
        "beside_p99_ms": median(b.p99_ms for b in beside),
    }
    if control:
        figures |= {
            "p99_over_control": _ratio(beside, control),
            "control_p99_ratio": _ratio(control, alone),
            "control_p99_ms": median(c.p99_ms for c in control),
        }
    return {name: round(value, 1 if name.endswith(("_ms", "per_s")) else 3) for name, value in figures.items()}


def _ratio(these: Sequence[Measured], those: Sequence[Measured]) -> float:
    """The median of the rounds' ratios of p99."""
    return median(this.p99_ms / that.p99_ms for this, that in zip(these, those, strict=True))
