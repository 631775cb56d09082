"""How many events a second: end to end, one sender alone, and a bare loop that only signs and posts."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import aiohttp

from bench.children import Receiver
from bench.rig import TENANTS, Rig, rig, say
from pipeline.profiles import PROFILES, RANDOM_BYTES

IN_FLIGHT = 64
LEAST_PER_S, MOST_TIMES_BARE = 5_000, 3
WARM = {"quick": 1, "slow": 8}
"""Before what is measured, one in so many of the events: the JVM compiles, every webhook is looked up once."""


async def run(events: int, folder: Path) -> dict[str, float]:
    """All figures of one run; rates per second, CPU in microseconds for each delivery."""
    receivers = {"quick": Receiver.start(), "slow": Receiver.start(0.05)}
    try:
        result = await _bare(receivers["quick"], events)
        async with rig(folder) as flow:
            for name, receiver in receivers.items():
                await flow.add_tenants(name, receiver.port)
            await flow.start("router-0")
            result |= await _one_sender(flow, receivers["quick"], events)
            await flow.start("sender-1")
            for name, part in WARM.items():
                await _end_to_end(flow, name, receivers[name], events // part)
            result |= await _end_to_end(flow, "quick", receivers["quick"], events)
            slow = await _end_to_end(flow, "slow", receivers["slow"], events)
            result["end_to_end_50ms_per_s"] = slow["end_to_end_per_s"]
    finally:
        for receiver in receivers.values():
            receiver.stop()
    return {name: round(value, 1) for name, value in sorted(result.items())}


def verdict(figures: dict[str, float]) -> str:
    """Whether it is as fast as it should be on two cores."""
    rate, times = figures["end_to_end_per_s"], figures["sender_cpu_us"] / figures["bare_cpu_us"]
    fast, cheap = ("met" if met else "MISSED" for met in (rate >= LEAST_PER_S, times <= MOST_TIMES_BARE))
    return (
        f"end to end {rate:,.0f}/s, at least {LEAST_PER_S:,}: {fast}; "
        f"a sender's CPU {times:.2f} times the bare loop's, at most {MOST_TIMES_BARE}: {cheap}"
    )


async def _end_to_end(flow: Rig, name: str, receiver: Receiver, events: int) -> dict[str, float]:
    """From the first event on Kafka to the last request received."""
    receiver.ask("reset")
    before = {role: flow.cpu_s(role) for role in ("router", "sender", "kafka")}
    begun_ns = await flow.send_many(name, events)
    tally = await receiver.received(events, 120)
    rate = events / ((tally["last_ns"] - begun_ns) / 1e9)
    say(f"end to end, {name} receiver: {rate:,.0f}/s")
    used = {f"{role}_cpu_us": (flow.cpu_s(role) - cpu) / events * 1e6 for role, cpu in before.items()}
    used["broker_cpu_us"] = used.pop("kafka_cpu_us")
    return {"end_to_end_per_s": rate, **used}


async def _one_sender(flow: Rig, receiver: Receiver, events: int) -> dict[str, float]:
    """One sender on a backlog that was routed before it started."""
    receiver.ask("reset")
    await flow.send_many("quick", events)
    await flow.routed()
    await flow.start("sender-0")
    tally = await receiver.received(events, 120)
    rate = events / ((tally["last_ns"] - tally["first_ns"]) / 1e9)
    say(f"one sender on a backlog: {rate:,.0f}/s")
    return {"sender_per_s": rate}


async def _bare(receiver: Receiver, requests: int) -> dict[str, float]:
    """The same bodies, signed the same way, posted by aiohttp in a loop: what the work costs without a pipeline."""
    deliveries = _Deliveries()
    begun, cpu = time.perf_counter(), time.process_time()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        counter = iter(range(requests))

        async def post() -> None:
            for number in counter:
                url, headers, body = deliveries.request(number, receiver.port)
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()

        await asyncio.gather(*(post() for _ in range(IN_FLIGHT)))
    took, used = time.perf_counter() - begun, time.process_time() - cpu
    assert receiver.ask("count")["requests"] == requests  # noqa: S101 - the bench's own proof
    say(f"bare loop: {requests / took:,.0f}/s")
    return {"bare_per_s": requests / took, "bare_cpu_us": used / requests * 1e6}


class _Deliveries:
    """Signed requests like the sender's, one webhook per tenant."""

    def __init__(self) -> None:
        scheme = PROFILES["standard"].schemes[0]
        self._signers = [scheme.signer(scheme.generate(os.urandom(RANDOM_BYTES))) for _ in range(TENANTS)]
        self._body = b'{"type":"bench.event","timestamp":"2026-01-01T00:00:00.000Z","data":{"pad":"%b"}}' % (b"x" * 480)

    def request(self, number: int, port: int) -> tuple[str, dict[str, str], bytes]:
        """URL, headers, body."""
        sign, now = self._signers[number % TENANTS], str(int(time.time()))
        name = f"msg_{number:026d}"
        signed = dict(sign(name, now, self._body))
        headers = {"content-type": "application/json", "webhook-id": name, "webhook-timestamp": now, **signed}
        return f"http://127.0.0.1:{port}/{number % TENANTS}", headers, self._body
