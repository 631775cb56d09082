"""One endpoint can hurt neither another nor us: healthy deliveries beside bad endpoints, case by case.

`dead`, `slow`, `dns`, `hostile`: `ENDPOINTS` healthy endpoints at a steady rate, alone and beside as much traffic to
as many bad ones: two of those get half of it, so that there are few hot ones and many others, on all partitions. Each
pair has new bad endpoints, of which nothing is known, so the windows hold the worst there is: the time until they are
known. They last longer than a request's deadline (15 s), so the time after is in them as well. At the end of a window
the bad endpoints close their connections and their webhooks are made inactive, so that what is left of them neither
holds a place nor is sent in the next window; what comes back from the ladder is skipped in either kind of window.

`well` is the control, without a floor for its p99: what as much traffic to healthy neighbours does to it. `limited` and
`memory`: see there. A healthy delivery that does not come is a missed floor in every case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from bench import limited, memory
from bench.children import Child
from bench.load import Stream
from bench.names import QUICK, SLOW, name_server
from bench.neighbours import ENDPOINTS, Healthy, Window, compared, healthy, pairs
from bench.rig import rig, say
from pipeline.flow.subscription import Subscription

Figures = dict[str, float]

RATE, PAIRS, BACKLOG = 500.0, 5, limited.BACKLOG
HOT = 2
"""Bad endpoints that get half of the bad traffic."""
LEAST_THROUGHPUT, MOST_P99 = 0.9, 1.2
_LOOK_S = 2.0
INSIDE = "127.0.0.0/8,198.51.100.0/24"
"""With a network that is not the loopback, names may lead inside (RFC 5737: nobody has this one)."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A kind of bad endpoints. Both windows of a pair last as long: what else the machine does spoils either alike."""

    window_s: float = 16.0
    settle_s: float = 3.0
    host: str = ""
    """Their names, where they have some: `{}` for the pair's and the endpoint's number. Nobody listens there."""


CONTROL = "well"
BAD = {
    CONTROL: Bad(),
    "dead": Bad(),
    "slow": Bad(),
    "dns": Bad(settle_s=5.0, host=f"p{{}}w{{}}.{SLOW}"),
    "hostile": Bad(),
}
CASES = (*BAD, "limited", "memory")


async def run(
    cases: Sequence[str], rate: float, folder: Path, *, backlog: int = BACKLOG, count: int = PAIRS
) -> dict[str, Any]:
    """Each case on a fresh broker: `{"cases": {"dead": {…}}}`.

    `busy_percent` is the most of the machine's CPU that was in use before a case began: a p99 means little beside it.
    """
    figures: dict[str, Figures] = {}
    busy = 0.0
    for case in cases:
        busy = max(busy, await asyncio.to_thread(psutil.cpu_percent, _LOOK_S))
        say(f"{case}: (the machine is busy to {busy:.0f} % with other things)")
        place = folder / case
        place.mkdir()
        match case:
            case "limited":
                figures[case] = await limited.run(rate, backlog, place)
            case "memory":
                figures[case] = await memory.run(place)
            case _:
                figures[case] = await _beside(case, rate, count, place)
        say(f"{case}: {figures[case]}")
    held = figures.pop("memory", None)
    return {"cases": figures, **({} if held is None else {"memory": held}), "busy_percent": busy}


def missed(figures: dict[str, Any]) -> list[str]:
    """The floors that were not met."""
    lines: list[str] = []
    for name, case in figures["cases"].items():
        if case["throughput_ratio"] < LEAST_THROUGHPUT:
            lines.append(f"{name}: throughput_ratio is {case['throughput_ratio']}; the floor is {LEAST_THROUGHPUT}")
        if case["p99_ratio"] > MOST_P99 and name != CONTROL:
            lines.append(f"{name}: p99_ratio is {case['p99_ratio']}; the floor is {MOST_P99}")
        if case["missing"]:
            lines.append(f"{name}: {case['missing']:.0f} healthy deliveries did not come")
    lines += limited.missed(figures["cases"]["limited"]) if "limited" in figures["cases"] else []
    return lines + (memory.missed(figures["memory"]) if "memory" in figures else [])


async def _beside(case: str, rate: float, count: int, folder: Path) -> Figures:
    """The pairs of a case. All its names, the healthy ones' too, are resolved by one name server."""
    kind, host = BAD[case], f"h{{}}.{QUICK}" if BAD[case].host else "127.0.0.1"
    misbehaving = Child.spawn("bench.misbehaving")
    try:
        async with (
            name_server() as servers,
            rig(folder, PIPELINE_EGRESS_ALLOW=INSIDE, PIPELINE_EGRESS_NAME_SERVERS=servers) as flow,
            healthy(flow, rate, host) as here,
        ):
            beside = _neighbours(case, kind, here, misbehaving)
            made = await pairs(here, beside, count=count, alone_s=kind.window_s, settle_s=kind.settle_s)
            times, missing = await here.end()
    finally:
        misbehaving.stop()
    return {**compared(made, times), "missing": missing}


def _neighbours(case: str, kind: Bad, here: Healthy, misbehaving: Child) -> Callable[[int], Awaitable[Window]]:
    async def beside(pair: int) -> Window:
        say(f"{case}: pair {pair + 1}")
        webhooks = await _webhooks(case, kind, here, misbehaving, pair)
        names = [webhook.tenant for webhook in webhooks]
        rate = here.load.streams["healthy"].rate
        here.load.streams["bad"] = Stream(_two_get_half(names), rate)
        window = await Window.lasting(kind.window_s)
        del here.load.streams["bad"]
        await here.flow.put([replace(webhook, active=False) for webhook in webhooks])
        misbehaving.ask("close")
        return window

    return beside


async def _webhooks(case: str, kind: Bad, here: Healthy, misbehaving: Child, pair: int) -> list[Subscription]:
    if kind.host:
        places = [f"{kind.host.format(pair, number)}:{here.receiver.port}" for number in range(ENDPOINTS)]
    else:
        places = [f"127.0.0.1:{port}" for port in misbehaving.ask(f"open {case} {ENDPOINTS}")["ports"]]
    made = [await here.flow.add(f"{case}{pair}-{n}", [f"http://{place}/"]) for n, place in enumerate(places)]
    return [webhook for webhooks in made for webhook in webhooks]


def _two_get_half(names: Sequence[str]) -> list[str]:
    """A turn in which every other event is for one of the first `HOT`."""
    turn = []
    for number, name in enumerate(names[HOT:]):
        turn += [names[number % HOT], name]
    return turn
