"""How many events a second one API process takes: one in a request, and a hundred."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.children import Child
from bench.rig import TENANTS, rig, say

KEY = "bench-admin-key"
LEAST = {"single_per_s": 1_500, "batched_per_s": 15_000}
_LOADS = {"single_per_s": (1, 48), "batched_per_s": (100, 12)}
"""Events in a request, connections."""
_WARM_S = 2.0


async def run(seconds: float, folder: Path) -> dict[str, float]:
    """Events per second that were stored, each kind of request for so long; and requests that were refused."""
    async with rig(folder, PIPELINE_ADMIN_KEY=KEY) as flow:
        await flow.add_tenants("bench", 9)
        await flow.start("api-0")
        client = Child.spawn("bench.posting", flow.api_port, KEY)
        try:
            figures, refused = dict[str, float](), 0
            for name, (per_request, connections) in _LOADS.items():
                for lasting in (_WARM_S, seconds):
                    load = f"post {per_request} {connections} {lasting} {TENANTS}"
                    told = await asyncio.to_thread(client.ask, load)
                figures[name] = round(told["per_s"], 1)
                refused += sum(count for status, count in told["statuses"].items() if status != "202")
                say(f"ingest, {per_request} in a request: {figures[name]:,.0f}/s")
        finally:
            client.stop()
    return {**figures, "refused": refused}


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    lines = [
        f"ingest: {name} is {figures[name]:,.0f}; the floor is {least:,}"
        for name, least in LEAST.items()
        if figures[name] < least
    ]
    return lines + ([f"ingest: {figures['refused']:.0f} requests were refused"] if figures["refused"] else [])
