"""How soon a process with a million subscriptions is ready, and how much memory it takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import psutil
from confluent_kafka import Producer

from bench.ingest import KEY
from bench.rig import LOAD_STEP, Rig, rig, say
from pipeline.flow.subscription import Subscription
from pipeline.kafka import topics
from pipeline.kafka.clients import producer_config

SUBSCRIPTIONS, PER_TENANT = 1_000_000, 10
MOST_S, MOST_MB = 10.0, 700.0
ROLES = ("router-0", "sender-0", "api-0")


async def run(subscriptions: int, folder: Path) -> dict[str, float]:
    """Of each role with views: seconds from its start until it is ready, and its resident set then (MB)."""
    figures: dict[str, float] = {}
    async with rig(folder, PIPELINE_ADMIN_KEY=KEY) as flow:
        (model,) = await flow.add("bench0", ["http://127.0.0.1:9/hook"])
        await asyncio.to_thread(_write, flow, model, subscriptions)
        for name in ROLES:
            begun = time.perf_counter()
            await flow.start(name)
            role = name.partition("-")[0]
            figures[f"{role}_ready_s"] = round(time.perf_counter() - begun, 2)
            figures[f"{role}_mb"] = round(psutil.Process(flow.roles[name].pid).memory_info().rss / 1e6, 1)
            say(f"view, {role}: ready after {figures[f'{role}_ready_s']} s, {figures[f'{role}_mb']:.0f} MB")
            await flow.stop(name)
    return figures


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    lines = []
    for name, figure in figures.items():
        most = MOST_S if name.endswith("_s") else MOST_MB
        if figure > most:
            lines.append(f"view: {name} is {figure}; the floor is {most:g}")
    return lines


def _write(flow: Rig, model: Subscription, count: int) -> None:
    """So many webhooks like the one that there is, `PER_TENANT` to a tenant."""
    say(f"view: writing {count:,} subscriptions")
    producer = Producer(producer_config(flow.settings, linger_ms=20))
    for number in range(count):
        tenant, webhook = f"tenant{number // PER_TENANT}", f"wh_{number:022d}"
        url = f"https://hooks.example.com/services/{tenant}/{webhook}"
        made = replace(model, tenant=tenant, webhook=webhook, url=url, created_ms=number, updated_ms=number)
        producer.produce(topics.SUBSCRIPTIONS, flow.codec.encode_subscription(made), made.path)
        if number % LOAD_STEP == 0:
            producer.poll(0)
    producer.flush(120)
