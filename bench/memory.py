"""What a sender's memory comes to: 60 deliveries to each of 10,000 endpoints, as fast as it goes.

One sender has them all. The endpoints are hosts of their own (127.x.y.z, which Linux alone has), so that each needs a
connection. A thousand tenants have ten webhooks each, so an event causes ten deliveries.
"""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import suppress
from pathlib import Path

import psutil

from bench.children import Receiver
from bench.rig import Rig, rig, say

ENDPOINTS, MESSAGES, TENANTS = 10_000, 60, 1_000
MOST_MB = 500.0
_PATIENCE_S = 900.0
_LOOK_S = 0.1


async def run(folder: Path) -> dict[str, float]:
    """The sender's peak (resident set, MB) and how fast it went."""
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    receiver = Receiver.start(everywhere=True)
    try:
        async with rig(folder) as flow:
            await _tenants(flow, receiver.port)
            await flow.start("router-0", "sender-0", "delay-0")
            say(f"{ENDPOINTS:,} endpoints, {MESSAGES} messages each")
            peak = asyncio.create_task(_peak_mb(flow, receiver))
            events = TENANTS * MESSAGES
            begun = await flow.load([flow.event(f"memory{number % TENANTS}", number) for number in range(events)])
            peak_mb = await peak
            tally = receiver.ask("count")
    finally:
        receiver.stop()
    per_s = tally["requests"] / (tally["last_ns"] - begun) * 1e9
    return {"sender_peak_mb": round(peak_mb, 1), "per_s": round(per_s, 1), "received": tally["requests"]}


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    lines = []
    if figures["sender_peak_mb"] >= MOST_MB:
        lines.append(f"memory: sender_peak_mb is {figures['sender_peak_mb']}; the floor is {MOST_MB:.0f}")
    if figures["received"] < ENDPOINTS * MESSAGES:
        lines.append(f"memory: {figures['received']:.0f} of {ENDPOINTS * MESSAGES} deliveries came")
    return lines


async def _tenants(flow: Rig, port: int) -> None:
    each = ENDPOINTS // TENANTS
    for tenant in range(TENANTS):
        hosts = (divmod(tenant * each + number, 200) for number in range(each))
        await flow.add(f"memory{tenant}", [f"http://127.1.{high}.{low + 1}:{port}/" for high, low in hosts])


async def _peak_mb(flow: Rig, receiver: Receiver) -> float:
    """Look until everything has come, or nothing comes any more."""
    process, peak, wanted = psutil.Process(flow.roles["sender-0"].pid), 0, ENDPOINTS * MESSAGES
    until, told = time.monotonic() + _PATIENCE_S, 0
    while (came := receiver.ask("count")["requests"]) < wanted and time.monotonic() < until:
        peak = max(peak, process.memory_info().rss)
        if came // 100_000 > told:
            told = came // 100_000
            say(f"{came:,} received, {peak / 1e6:.0f} MB")
        await asyncio.sleep(_LOOK_S)
    return max(peak, process.memory_info().rss) / 1e6
