"""How long from producing an event to receiving its request, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.children import Receiver
from bench.rig import Rig, rig, say

WARM, WARM_S = 30_000, 3.0


async def run(rate: int, seconds: float, folder: Path) -> dict[str, float]:
    """Percentiles of the age of an event when its request has been received, in milliseconds."""
    receiver = Receiver.start()
    try:
        async with rig(folder) as flow:
            await flow.add_tenants("steady", receiver.port)
            await flow.start("router-0", "sender-0", "sender-1")
            await flow.send_many("steady", WARM)  # until the JVM has compiled what it will
            await _steady(flow, rate, WARM_S)
            await receiver.received(WARM + int(rate * WARM_S), 60)
            receiver.ask("reset")
            say(f"{rate}/s for {seconds:.0f} s")
            sent = await _steady(flow, rate, seconds)
            await receiver.received(sent, 30)
            ages = sorted(receiver.ask("ages")["ages_ms"])
    finally:
        receiver.stop()
    points = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return {name: round(ages[int(len(ages) * point)], 2) for name, point in points.items()}


async def _steady(flow: Rig, rate: int, seconds: float) -> int:
    """Produce at `rate`, each event at its own moment."""
    begun, count = time.perf_counter(), int(rate * seconds)
    for number in range(count):
        if (ahead := begun + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        flow.send("steady", number)
    await flow.publisher.flush(30)
    return count
