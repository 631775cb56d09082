"""Replays: how fast a window is planned, how fast one is replayed, and what that costs the live deliveries.

`live`: healthy endpoints at a steady rate, alone and beside a replay at as much a second to one endpoint of another
tenant, whose webhook did not exist when its events happened. A window of the replay begins with its order and ends
with its cancel, so what starting costs is in it. `replay_per_s` is what came to its endpoint in the later half of a
window, since a replay starts slowly; the median of the windows. `plan`: see there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench import plan
from bench.asking import Api, iso
from bench.children import Receiver
from bench.ingest import KEY
from bench.neighbours import Healthy, Neighbours, Times, Window, compared, healthy, rounds
from bench.rig import Rig, rig, say
from pipeline.flow.subscription import Subscription

Figures = dict[str, float]

RATE, ROUNDS, WINDOW_S = 500.0, 5, 15.0
PARTS = ("plan", "live")
LEAST = {"plan_events_per_s": 100_000.0, "replay_per_s": 450.0}
MOST_RATIO = 1.2
TENANT = "history"
_MORE = 1.5
"""Times as many events as a window's replay needs: none ends before its window does."""
_STARTING = 1 / 2
"""Of a window: not counted into the replay's own rate."""
_SETTLE_S = 3.0
_PATIENCE_S = 60.0
_LOOK_S = 0.25
_BUSY_S = 2.0


async def run(parts: Sequence[str], rate: float, folder: Path, *, count: int, window_s: float) -> Figures:
    """The figures of these parts.

    `busy_percent` is the most of the machine's CPU that was in use before a part began: a p99 means little beside it.
    """
    figures, busy = Figures(), 0.0
    for part in parts:
        busy = max(busy, await asyncio.to_thread(psutil.cpu_percent, _BUSY_S))
        say(f"{part}: (the machine is busy to {busy:.0f} % with other things)")
        place = folder / part
        place.mkdir()
        figures |= await (plan.run(plan.EVENTS, place) if part == "plan" else _live(rate, count, window_s, place))
    return {**figures, "busy_percent": busy}


def missed(figures: Figures) -> list[str]:
    """The floors that were not met."""
    lines = [
        f"{name} is {figures[name]:,.0f}; the floor is {least:,.0f}"
        for name, least in LEAST.items()
        if name in figures and figures[name] < least
    ]
    if figures.get("live_p99_ratio", 0.0) > MOST_RATIO:
        lines.append(f"live_p99_ratio is {figures['live_p99_ratio']}; the floor is {MOST_RATIO}")
    if figures.get("live_missing"):
        lines.append(f"{figures['live_missing']:.0f} live deliveries did not come")
    return lines


async def _live(rate: float, count: int, window_s: float, folder: Path) -> Figures:
    endpoint = Receiver.start()
    try:
        async with rig(folder, PIPELINE_ADMIN_KEY=KEY) as flow:
            webhook, order = await _history(flow, endpoint, rate, window_s)
            async with healthy(flow, rate) as here:
                await flow.start("api-0", "replayer-0")
                await flow.put([replace(webhook, active=True)])
                beside = _replaying(here, order, window_s)
                made = await rounds(here, beside, count=count, alone_s=window_s, settle_s=_SETTLE_S)
                times, missing = await here.end()
        came: Times = endpoint.ask("times")["times"]
    finally:
        endpoint.stop()
    told = compared(made, times)
    return {
        "replay_per_s": round(median(replayed_per_s(one.beside, came) for one in made), 1),
        "live_p99_ratio": told["p99_ratio"],
        "live_throughput_ratio": told["throughput_ratio"],
        "live_alone_p99_ms": told["alone_p99_ms"],
        "live_beside_p99_ms": told["beside_p99_ms"],
        "live_missing": missing,
    }


def replayed_per_s(window: Window, came: Times) -> float:
    """What came in the later part of the window, per second."""
    begin = window.begin + (window.end - window.begin) * _STARTING
    return sum(begin <= at < window.end for _, _, at in came) / (window.end - begin) * 1e9


async def _history(flow: Rig, endpoint: Receiver, rate: float, window_s: float) -> tuple[Subscription, dict[str, Any]]:
    """Events that nobody wanted when they happened: the webhook, which is not active yet, and what replays them."""
    (webhook,) = await flow.add(TENANT, [f"http://127.0.0.1:{endpoint.port}/"], active=False)
    begun = time.time()
    await flow.load([flow.event(TENANT, number) for number in range(int(rate * window_s * _MORE))])
    window = {"from": iso(begun), "to": iso(time.time() + 0.001)}
    return webhook, {"tenant": TENANT, "webhooks": [webhook.webhook], "rate": rate, **window}


def _replaying(here: Healthy, order: dict[str, Any], window_s: float) -> Neighbours:
    api = Api(here.flow.api_port, KEY)

    async def beside(number: int) -> Window:
        begin = time.time_ns()
        replay = await api.ask("POST", "/v1/replays", order)
        await asyncio.sleep(window_s)
        window = Window(begin, time.time_ns())
        progress = (await _ended(api, replay["id"]))["progress"]
        say(f"live: round {number + 1}: {progress['deliveries']:,} deliveries were written")
        return window

    return beside


async def _ended(api: Api, replay: str) -> Any:
    """Cancel it; the replay, once its job has stopped."""
    await api.ask("POST", f"/v1/replays/{replay}/cancel")
    until = time.monotonic() + _PATIENCE_S
    while (said := await api.ask("GET", f"/v1/replays/{replay}"))["state"] in {"queued", "running"}:
        if time.monotonic() > until:
            raise TimeoutError(f"replay {replay} has not stopped within {_PATIENCE_S:.0f} s")
        await asyncio.sleep(_LOOK_S)
    return said
