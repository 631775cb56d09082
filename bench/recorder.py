"""How many attempts a second one recorder writes to the log: a backlog, with their events and deliveries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer

from bench.rig import LOAD_STEP, PAD, PARTITIONS, TENANTS, Rig, rig, say
from pipeline.flow.deliver import Answers, Attempt, Delivery, Done, Next, Origin, Retry, Verdict
from pipeline.flow.event import Event
from pipeline.kafka import topics
from pipeline.kafka.clients import producer_config
from pipeline.kafka.lag import Offsets, ends_of, left
from pipeline.ports import Outgoing
from pipeline.workers.carriage import FIRST

EVENTS = 150_000
LEAST_PER_S = 5_000
FAILS = 5
"""Of so many deliveries one has a first attempt that fails."""
_GROUP = "pipeline-recorder"
_PATIENCE_S = 300.0
_LOOK_S = 0.1
_SENT = tuple(
    (name, "x" * size)
    for name, size in (
        ("content-type", 16),
        ("user-agent", 20),
        ("webhook-id", 30),
        ("webhook-timestamp", 10),
        ("webhook-signature", 6),
    )
)
_ANSWERED = (("content-type", "text/plain"), ("content-length", "2"), ("server", "bench"))


async def run(events: int, folder: Path) -> dict[str, float]:
    """Attempts a second, while their events and deliveries are written as well; CPU microseconds for each attempt."""
    async with rig(folder) as flow:
        attempts = await asyncio.to_thread(_write, flow, events)
        ends = await asyncio.to_thread(_ends, flow)
        say(f"recorder: {attempts:,} attempts wait, among {sum(ends.values()):,} records")
        await flow.start("recorder-0")
        cpu, begun, waiting = flow.cpu_s("recorder"), time.perf_counter(), await asyncio.to_thread(_left, flow, ends)
        while rest := await asyncio.to_thread(_left, flow, ends):
            if time.perf_counter() - begun > _PATIENCE_S:
                raise TimeoutError(f"{rest} records are not recorded after {_PATIENCE_S:.0f} s")
            await asyncio.sleep(_LOOK_S)
        took, used = time.perf_counter() - begun, flow.cpu_s("recorder") - cpu
    measured = waiting * attempts / sum(ends.values())
    say(f"recorder: {measured / took:,.0f} attempts/s")
    return {"attempts_per_s": round(measured / took, 1), "cpu_us": round(used / measured * 1e6, 1)}


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    if figures["attempts_per_s"] >= LEAST_PER_S:
        return []
    return [f"recorder: attempts_per_s is {figures['attempts_per_s']:,.0f}; the floor is {LEAST_PER_S:,}"]


def _ends(flow: Rig) -> Offsets:
    every = [(name, number) for name in topics.GROUPS[_GROUP][:-1] for number in range(PARTITIONS)]
    return ends_of(topics.admin(flow.settings), every)


def _left(flow: Rig, ends: Offsets) -> int:
    return left(topics.admin(flow.settings), _GROUP, ends)


def _write(flow: Rig, events: int) -> int:
    """So many events, a delivery of each, and their attempts, as the roles write them; how many attempts."""
    producer, attempts = Producer(producer_config(flow.settings, linger_ms=20)), 0
    for number in range(events):
        for out in _records(flow, number):
            producer.produce(out.topic, out.value, out.key, out.partition or 0, headers=list(out.headers))
            attempts += out.topic == topics.ATTEMPTS
        if number % LOAD_STEP == 0:
            producer.poll(0)
    producer.flush(120)
    return attempts


def _records(flow: Rig, number: int) -> Iterator[Outgoing]:
    tenant, webhook, ident, now = f"bench{number % TENANTS}", "wh_0", f"msg_{number:026d}", time.time_ns() // 1_000_000
    partition, key = number % PARTITIONS, f"{tenant}/{webhook}".encode()
    event = Event(f"{tenant}-{number}", tenant, "bench.event", now, f'{{"n":{number},"pad":"{PAD}"}}')
    origin = Origin(topics.EVENTS, partition, number // PARTITIONS, 1)
    named = tenant, webhook, event.id, event.type
    delivery = Delivery(ident, *named, None, now, event.data.encode(), 1, origin)
    yield Outgoing(topics.EVENTS, None, flow.codec.encode_event(event), partition=partition)
    yield Outgoing(topics.DELIVERIES, key, flow.codec.encode_delivery(delivery), FIRST, partition)
    made: tuple[tuple[Verdict, int, Next], ...] = ((Verdict.DELIVERED, 200, Done()),)
    if number % FAILS == 0:
        made = ((Verdict.REJECTED, 503, Retry(5_000)), *made)
    for attempt, (verdict, status, then) in enumerate(made, 1):
        told = ident, "", attempt - 1, event.id, tenant, webhook, event.type, attempt, now, 12
        answered = verdict, status, _SENT, _ANSWERED, b"ok", then, Answers(partition, number // PARTITIONS)
        yield Outgoing(topics.ATTEMPTS, key, flow.codec.encode_attempt(Attempt(*told, *answered)), partition=partition)
