"""A client process among hostile endpoints: `crowd.py` with an `Order` as JSON on stdin, a `Result` on stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from threading import Event, Thread

import psutil
import uvloop

from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from tests.http.endpoints import post

_LOOK_S = 0.002
_NEIGHBOURS = 8
_WARM = 400


@dataclass(frozen=True)
class Order:
    """`each` deliveries to every target (URL, size of the body, redirects) at the same time.

    Meanwhile one after the other, eight at a time, go to the neighbour. `lifted` names limits of the product's modules
    that are not to hold.
    """

    targets: list[tuple[str, int, int]]
    neighbours: list[str]
    ca_file: str
    each: int
    deadline_s: float
    lifted: Mapping[str, list[str]]


@dataclass(frozen=True)
class Result:
    """How much memory grew at most, how long the burst took, and what became of the neighbour's deliveries."""

    grown_mb: float
    seconds: float
    sent: int
    arrived: int


@dataclass
class _Peak:
    """The most memory seen: the process looks every two milliseconds."""

    before: int = 0
    most: int = 0


@asynccontextmanager
async def _watched() -> AsyncIterator[_Peak]:
    """Memory from here to the end of the block."""
    process, over = psutil.Process(), Event()
    peak = _Peak(before=process.memory_info().rss)

    def look() -> None:
        while not over.wait(_LOOK_S):
            peak.most = max(peak.most, process.memory_info().rss)

    thread = Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


async def main(order: Order) -> Result:
    """Warm up, then send to everybody at once."""
    for module, names in order.lifted.items():
        for name in names:
            setattr(import_module(module), name, 1 << 30)
    client = DeliveryClient(EgressPolicy.parse("127.0.0.0/8"), ca_file=order.ca_file)
    loop, over, bodies = asyncio.get_running_loop(), asyncio.Event(), {0: b"{}"}

    async def neighbours(url: str) -> tuple[int, int]:
        sent = arrived = 0
        while not over.is_set():
            outcome = await client.send(post(url, order.deadline_s))
            sent, arrived = sent + 1, arrived + (outcome.status == 200)
        return sent, arrived

    bodies = {size: bytes(size) for _, size, _ in order.targets}
    for url in order.neighbours:
        await asyncio.gather(*(client.send(post(url, 30)) for _ in range(_WARM)))
    async with _watched() as peak:
        beside = [asyncio.create_task(neighbours(url)) for url in order.neighbours for _ in range(_NEIGHBOURS)]
        began = loop.time()
        requests = [
            post(url, order.deadline_s, body=bodies[size], max_redirects=redirects)
            for url, size, redirects in order.targets
            for _ in range(order.each)
        ]
        await asyncio.gather(*map(client.send, requests))
        seconds = loop.time() - began
        over.set()
        counts = await asyncio.gather(*beside)
    await client.aclose()
    sent, arrived = (sum(numbers) for numbers in zip(*counts, strict=True))
    return Result((peak.most - peak.before) / 1e6, seconds, sent, arrived)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(main(Order(**json.load(sys.stdin)))))))  # noqa: T201
