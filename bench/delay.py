"""How late the ladder is: a backlog that waits while it is written, then one that is overdue all at once.

Judged from outside, by the broker's clock alone: the append time of a tier's record plus the tier's wait against the
append time of the record that it became on the next topic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from bench.following import Follower
from bench.rig import PAD, Rig, rig, say
from pipeline.flow.deliver import Carriage
from pipeline.flow.retry import Ladder
from pipeline.kafka import topics
from pipeline.kafka.clients import client_config, producer_config
from pipeline.settings import Settings
from pipeline.workers.carriage import to_headers

RATE, STEP = 5_000, 25
SHORTEST = "retry-5s"
EVERY = 10
"""One record in so many goes through a second tier."""
WARM = 10_000
FIRST_OVERDUE = 10_000_000
LEAST_EARLY, MOST_LATE_MS = 0, 150.0
_PATIENCE_S = 120.0

Appended = dict[str, dict[int, int]]
"""By topic: the broker's append time (milliseconds) of each numbered record."""


@dataclass(frozen=True, slots=True)
class Load:
    """Numbered records for one tier; every tenth waits in the shortest tier after it."""

    tier: str
    wait_ms: int
    more_ms: int
    first: int
    count: int

    @property
    def numbers(self) -> range:
        """Those of its records."""
        return range(self.first, self.first + self.count)

    def twice(self, number: int) -> bool:
        """Whether this one goes through a second tier."""
        return self.more_ms > 0 and number % EVERY == 0

    def record(self, number: int) -> dict[str, Any]:
        """As the sender postpones a delivery."""
        wait_ms = self.wait_ms + self.more_ms * self.twice(number)
        return {
            "topic": self.tier,
            "key": b"tenant%d/wh_bench" % (number % 100),
            "value": b"%d %b" % (number, PAD.encode()),
            "headers": list(to_headers(Carriage("", 1, wait_ms))),
        }


@contextmanager
def following(settings: Settings, names: tuple[str, ...]) -> Iterator[Appended]:
    """What has been seen of the numbered records, for as long as the `with` lasts."""
    appended: Appended = {name: {} for name in names}

    def note(message: Message) -> None:
        number = int((message.value() or b"-1").partition(b" ")[0])
        appended[message.topic() or ""][number] = message.timestamp()[1]

    with Follower(settings, names, note).following():
        yield appended


async def run(backlog: int, folder: Path) -> dict[str, float]:
    """Records that came early, how late the others were, and how many a second are forwarded when all are due."""
    async with rig(folder) as flow:
        ladder = Ladder.parse(flow.settings.ladder)
        shortest = next(tier for tier in ladder.tiers if tier.topic == SHORTEST)
        tier = next(tier for tier in ladder.tiers[1:] if tier.wait_ms >= backlog / RATE * 1000)
        await asyncio.to_thread(_deliveries_by_append_time, flow.settings)
        names = tuple(dict.fromkeys((SHORTEST, tier.topic, topics.DELIVERIES)))
        with following(flow.settings, names) as appended:
            await flow.start("delay-0")
            await _written(flow, appended, Load(SHORTEST, shortest.wait_ms, 0, backlog, WARM))
            paced = Load(tier.topic, tier.wait_ms, shortest.wait_ms, 0, backlog)
            say(f"{backlog:,} records into {tier.topic} at {RATE:,}/s")
            cpu_s = flow.cpu_s("delay")
            peak_mb = await _written(flow, appended, paced)
            cpu_s = flow.cpu_s("delay") - cpu_s
            overdue = Load(SHORTEST, shortest.wait_ms, 0, FIRST_OVERDUE, backlog)
            rate = await _overdue(flow, appended, overdue)
        late = sorted(_late_ms(appended, paced))
        early = sum(ms < 0 for ms in late) + sum(ms < 0 for ms in _late_ms(appended, overdue))
    return {
        "early": early,
        "p50_late_ms": late[len(late) // 2],
        "p99_late_ms": late[int(len(late) * 0.99)],
        "max_late_ms": late[-1],
        "forward_per_s": round(rate, 1),
        "hops": len(late),
        "cpu_us": round(cpu_s / len(late) * 1e6, 1),
        "peak_mb": round(peak_mb, 1),
    }


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    lines = []
    if figures["early"] > LEAST_EARLY:
        lines.append(f"{figures['early']:.0f} records were forwarded early")
    if figures["p99_late_ms"] > MOST_LATE_MS:
        lines.append(f"p99 is {figures['p99_late_ms']:.0f} ms late; the floor is {MOST_LATE_MS:.0f}")
    return lines


async def _written(flow: Rig, appended: Appended, load: Load) -> float:
    """Write at `RATE` and wait until all has been delivered; the most memory that the role has had (MB)."""
    writing = asyncio.create_task(asyncio.to_thread(_write, flow.settings, load, RATE))
    peak = await _all_delivered(flow, appended, load)
    await writing
    return peak


async def _overdue(flow: Rig, appended: Appended, load: Load) -> float:
    """Records forwarded a second when all have waited long enough before the role starts."""
    await flow.stop("delay-0")
    await asyncio.to_thread(_write, flow.settings, load, None)
    await asyncio.sleep(load.wait_ms / 1000)
    say(f"{load.count:,} records are overdue")
    await flow.start("delay-0")
    await _all_delivered(flow, appended, load)
    times = [appended[topics.DELIVERIES][number] for number in load.numbers]
    return load.count / max(max(times) - min(times), 1) * 1000


async def _all_delivered(flow: Rig, appended: Appended, load: Load) -> float:
    until = time.monotonic() + _PATIENCE_S + load.count / RATE
    process, peak = psutil.Process(flow.roles["delay-0"].pid), 0
    while (left := sum(number not in appended[topics.DELIVERIES] for number in load.numbers)) > 0:
        if time.monotonic() > until:
            raise TimeoutError(f"{left} of {load.count} records were not delivered")
        peak = max(peak, process.memory_info().rss)
        await asyncio.sleep(0.25)
    return peak / 1e6


def _write(settings: Settings, load: Load, rate: int | None) -> None:
    """All records of a load, a few at a time, each few at their moment; or as fast as it goes."""
    producer = Producer(producer_config(settings, linger_ms=1))
    begun = time.monotonic()
    for done, number in enumerate(load.numbers):
        if done % STEP == 0:
            producer.poll(0)
            time.sleep(max(begun + done / rate - time.monotonic(), 0) if rate else 0)
        producer.produce(**load.record(number))
    producer.flush(_PATIENCE_S)


def _late_ms(appended: Appended, load: Load) -> list[int]:
    """Of each hop, how long after its time was over the next topic had the record; negative: early."""
    late = []
    for number in load.numbers:
        route = (
            [(load.tier, load.wait_ms), (SHORTEST, load.more_ms)] if load.twice(number) else [(load.tier, load.wait_ms)]
        )
        ends = [*(topic for topic, _ in route[1:]), topics.DELIVERIES]
        late += [
            appended[end][number] - appended[topic][number] - wait_ms
            for (topic, wait_ms), end in zip(route, ends, strict=True)
        ]
    return late


def _deliveries_by_append_time(settings: Settings) -> None:
    """So that the broker's clock tells when a record has arrived; the role under test does not look at it."""
    config: dict[str, Any] = client_config(settings)
    client = AdminClient(config)
    change = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topics.DELIVERIES, incremental_configs=[change])
    client.incremental_alter_configs([resource])[resource].result(30)
