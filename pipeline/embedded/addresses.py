"""Ports on loopback: free ones, taken ones, and whether something answers there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

from pipeline.embedded._errors import EmbeddedError

HOST = "127.0.0.1"
_FREE = range(20_000, 32_000)
"""Below every system's ephemeral range. A port in that range may be picked for a client's outgoing connection while
its server restarts; on loopback a client that keeps reconnecting can even connect to itself and keep the port."""


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False


def free_port() -> int:
    """A port on which nobody listens."""
    for port in random.sample(_FREE, 200):
        if is_free(port):
            return port
    raise EmbeddedError(f"No free port between {_FREE.start} and {_FREE.stop} on {HOST}.")


def claim(port: int, what: str, option: str) -> int:
    """The port to listen on: a free one for 0, else the one asked for, refused when it is taken."""
    if port == 0:
        return free_port()
    if not is_free(port):
        raise EmbeddedError(
            f"Port {port} for {what} is taken by another program: choose another with {option} (0: any)."
        )
    return port


async def http_status(port: int, path: str, method: str = "GET", body: bytes = b"", timeout: float = 2.0) -> int:  # noqa: ASYNC109 - a probe's own bound
    """The status that a server on loopback answers with; 0 when none answers within `timeout` seconds."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        async with asyncio.timeout(timeout):
            answer = await _exchange(port, request, 12)
            return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0
    return 0


async def kafka_answers(port: int) -> bool:
    """Whether a broker on loopback serves clients: DescribeCluster (key 60, version 0, KIP-700) names a live broker."""
    header = struct.pack(">hhi h x", 60, 0, 1, -1)  # key, version, correlation, no client id, no tags
    request = header + struct.pack(">?x", False)  # authorized operations are not asked for
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, struct.error, IndexError):
        async with asyncio.timeout(2):
            size = struct.pack(">i", len(request))
            answer = await _exchange(port, size + request, 4, framed=True)
            return _live_brokers(answer) > 0
    return False


def _live_brokers(answer: bytes) -> int:
    # correlation i32, tags u8, throttle i32, error i16, message compact string, cluster compact string, controller i32
    (error,) = struct.unpack_from(">h", answer, 9)
    at = 11
    for _ in range(2):
        at += max(answer[at] - 1, 0) + 1
    return answer[at + 4] - 1 if error == 0 else 0


async def _exchange(port: int, request: bytes, least: int, *, framed: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        first = await reader.readexactly(least)
        return await reader.readexactly(struct.unpack(">i", first)[0]) if framed else first
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
