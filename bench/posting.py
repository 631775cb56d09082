"""A client of the API that is no bottleneck: `python -m bench.posting PORT KEY`, told what to do line by line.

`post PER_REQUEST CONNECTIONS SECONDS TENANTS` posts events, so many in a request, each connection one request at a
time, and answers with what came of it. The requests are made beforehand; each event gets its id from the API.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PAD = "x" * 450
Told = dict[str, Any]


def request(port: int, key: str, tenant: str, per_request: int) -> bytes:
    """One request, whole."""
    event = {"type": "bench.event", "data": {"pad": PAD}}
    body = json.dumps(event if per_request == 1 else {"events": [event] * per_request}).encode()
    head = (
        f"POST /v1/tenants/{tenant}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def post(port: int, requests: Sequence[bytes], *, per_request: int, connections: int, seconds: float) -> Told:
    """Post for so long. `statuses` counts the answers; `per_s` are events that were accepted."""
    turn = cycle(requests)
    statuses: Counter[str] = Counter()
    begun = time.perf_counter()
    await asyncio.gather(*(_posting(port, turn, statuses, begun + seconds) for _ in range(connections)))
    took = time.perf_counter() - begun
    return {"per_s": statuses["202"] * per_request / took, "statuses": statuses}


async def _posting(port: int, requests: cycle[bytes], statuses: Counter[str], until: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        await reader.readexactly(int(found[1]) if found else 0)
        statuses[head[9:12].decode()] += 1
    writer.close()


async def main(port: int, key: str) -> None:
    """Do what standard input says, until it ends."""
    say({"port": port})
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        _, per_request, connections, seconds, tenants = line
        requests = [request(port, key, f"bench{number}", int(per_request)) for number in range(int(tenants))]
        load = {"per_request": int(per_request), "connections": int(connections)}
        say(await post(port, requests, **load, seconds=float(seconds)))


def say(answer: dict[str, Any]) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
