"""How many events a second one process looks at to plan a replay: of one tenant in a hundred, and of all tenants."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer

from bench.asking import Api, iso
from bench.ingest import KEY
from bench.rig import LOAD_STEP, PAD, Rig, rig, say
from pipeline.flow.event import Event
from pipeline.kafka import topics
from pipeline.kafka.clients import producer_config

EVENTS = 600_000
TENANTS, TYPES = 100, 10
_TIMES = 3


async def run(events: int, folder: Path) -> dict[str, float]:
    """Events per second, the median of plans after one that is not counted; CPU microseconds for each event."""
    async with rig(folder, PIPELINE_ADMIN_KEY=KEY) as flow:
        await flow.start("api-0")
        for number in range(TENANTS):
            await flow.add(f"plan{number}", ["http://127.0.0.1:9/"])
        window = {"from": iso(time.time()), "dry_run": True}
        await asyncio.to_thread(_write, flow, events)
        one = [await _planned(flow, {**window, "tenant": "plan0"}, events) for _ in range(_TIMES + 1)][1:]
        every = await _planned(flow, window, events)
    return {
        "plan_events_per_s": round(median(per_s for per_s, _ in one), 1),
        "plan_cpu_us": round(median(cpu_us for _, cpu_us in one), 2),
        "plan_every_tenant_per_s": round(every[0], 1),
    }


async def _planned(flow: Rig, asked: dict[str, Any], events: int) -> tuple[float, float]:
    begun, cpu = time.perf_counter(), flow.cpu_s("api")
    said = await Api(flow.api_port, KEY).ask("POST", "/v1/replays", asked)
    per_s, cpu_us = events / (time.perf_counter() - begun), (flow.cpu_s("api") - cpu) / events * 1e6
    if said["scanned"] != events:
        raise RuntimeError(f"{said['scanned']:,} of {events:,} events were looked at")
    say(f"plan: {per_s:,.0f} events/s, {cpu_us:.1f} us of CPU each, {said['deliveries']:,} deliveries")
    return per_s, cpu_us


def _write(flow: Rig, count: int) -> None:
    """So many events, of each tenant and type in turn; the same few records again and again."""
    say(f"plan: writing {count:,} events")
    producer, now = Producer(producer_config(flow.settings, linger_ms=20)), time.time_ns() // 1_000_000
    made = []
    for number in range(TENANTS * TYPES):
        tenant, kind = f"plan{number % TENANTS}", f"bench.type{number // TENANTS}"
        event = Event(f"e{number}", tenant, kind, now, f'{{"pad":"{PAD}"}}')
        made.append((flow.codec.encode_event(event), tenant, kind))
    for number in range(count):
        value, tenant, kind = made[number % len(made)]
        producer.produce(topics.EVENTS, value, tenant, headers={"tenant": tenant, "type": kind})
        if number % LOAD_STEP == 0:
            producer.poll(0)
    producer.flush(120)
