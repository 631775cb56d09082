"""One endpoint can hurt neither another nor us: healthy deliveries beside bad endpoints, case by case.

`dead`, `slow`, `dns`, `hostile`: `ENDPOINTS` healthy endpoints at a steady rate, alone, beside as much traffic to as
many more that are healthy as well (the *control*), and beside as much to as many bad ones. Two of the neighbours get
half of it, so that there are few hot ones and many others, on all partitions. Each round has new neighbours, of which
nothing is known, so the windows hold the worst there is: the time until they are known. They last longer than a
request's deadline (15 s), so the time after is in them as well. At the end of a window the neighbours close their
connections and their webhooks are made inactive, so that what is left of them neither holds a place nor is sent in the
next window; what comes back from the ladder is skipped in any window.

Over a run without neighbours, `p99_ratio` holds both what the load does to the machine and what the neighbours' faults
do. Dead endpoints answer nothing and so load it little: their floor is of that ratio. The others' is of
`p99_over_control`: what is bad may not cost others more than what is well. `limited` and `memory`: see there. A healthy
delivery that does not come is a missed floor in every case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from bench import limited, memory
from bench.children import Child
from bench.load import Stream
from bench.names import QUICK, SLOW, name_server
from bench.neighbours import ENDPOINTS, Healthy, Neighbours, Window, compared, healthy, rounds
from bench.rig import rig, say
from pipeline.flow.subscription import Subscription

Figures = dict[str, float]

RATE, ROUNDS, BACKLOG = 500.0, 5, limited.BACKLOG
HOT = 2
"""Neighbours that get half of their traffic."""
LEAST_THROUGHPUT, MOST_P99 = 0.9, 1.2
_LOOK_S = 2.0
INSIDE = "127.0.0.0/8,198.51.100.0/24"
"""With a network that is not the loopback, names may lead inside (RFC 5737: nobody has this one)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of neighbours. All windows of a round last as long: what else the machine does spoils each alike."""

    script: str
    """What they do with a request: a kind of `bench.misbehaving`."""
    host: str = "127.0.0.1"
    """Where they are, or their names: `{}` for the round's and the endpoint's number."""
    window_s: float = 16.0
    settle_s: float = 3.0

    @property
    def named(self) -> bool:
        """Whether somebody has to be asked for their addresses."""
        return "{}" in self.host

    @property
    def control(self) -> Kind:
        """Neighbours that are well, and reached in the same way."""
        return replace(self, script="well", host=f"c{{}}w{{}}.{QUICK}" if self.named else self.host)


BAD = {
    "dead": Kind("dead"),
    "slow": Kind("slow"),
    "dns": Kind("well", host=f"p{{}}w{{}}.{SLOW}", settle_s=5.0),
    "hostile": Kind("hostile"),
}
CASES = (*BAD, "limited", "memory")
_OVER = dict.fromkeys(("slow", "dns", "hostile"), "p99_over_control")
"""Of which ratio a case's floor is, if not of `p99_ratio`."""


async def run(
    cases: Sequence[str], rate: float, folder: Path, *, backlog: int = BACKLOG, count: int = ROUNDS
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
        over = _OVER.get(name, "p99_ratio")
        if case[over] > MOST_P99:
            lines.append(f"{name}: {over} is {case[over]}; the floor is {MOST_P99}")
        if case["missing"]:
            lines.append(f"{name}: {case['missing']:.0f} healthy deliveries did not come")
    lines += limited.missed(figures["cases"]["limited"]) if "limited" in figures["cases"] else []
    return lines + (memory.missed(figures["memory"]) if "memory" in figures else [])


async def _beside(case: str, rate: float, count: int, folder: Path) -> Figures:
    """The rounds of a case. All its names, the healthy ones' too, are resolved by one name server."""
    kind = BAD[case]
    misbehaving = Child.spawn("bench.misbehaving")
    try:
        async with (
            name_server() as servers,
            rig(folder, PIPELINE_EGRESS_ALLOW=INSIDE, PIPELINE_EGRESS_NAME_SERVERS=servers) as flow,
            healthy(flow, rate, f"h{{}}.{QUICK}" if kind.named else kind.host) as here,
        ):
            control = _neighbours("control", kind.control, here, misbehaving)
            beside = _neighbours(case, kind, here, misbehaving)
            made = await rounds(
                here, beside, count=count, alone_s=kind.window_s, settle_s=kind.settle_s, control=control
            )
            times, missing = await here.end()
    finally:
        misbehaving.stop()
    return {**compared(made, times), "missing": missing}


def _neighbours(name: str, kind: Kind, here: Healthy, misbehaving: Child) -> Neighbours:
    async def beside(number: int) -> Window:
        say(f"{name}: round {number + 1}")
        webhooks = await _webhooks(name, kind, here, misbehaving, number)
        tenants = [webhook.tenant for webhook in webhooks]
        rate = here.load.streams["healthy"].rate
        here.load.streams["neighbours"] = Stream(_two_get_half(tenants), rate)
        window = await Window.lasting(kind.window_s)
        del here.load.streams["neighbours"]
        await here.flow.put([replace(webhook, active=False) for webhook in webhooks])
        misbehaving.ask("close")
        return window

    return beside


async def _webhooks(name: str, kind: Kind, here: Healthy, misbehaving: Child, number: int) -> list[Subscription]:
    ports = misbehaving.ask(f"open {kind.script} {ENDPOINTS}")["ports"]
    places = [f"{kind.host.format(number, n)}:{port}" for n, port in enumerate(ports)]
    made = [await here.flow.add(f"{name}{number}-{n}", [f"http://{place}/"]) for n, place in enumerate(places)]
    return [webhook for webhooks in made for webhook in webhooks]


def _two_get_half(names: Sequence[str]) -> list[str]:
    """A turn in which every other event is for one of the first `HOT`."""
    turn = []
    for number, name in enumerate(names[HOT:]):
        turn += [names[number % HOT], name]
    return turn
