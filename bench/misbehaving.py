"""Endpoints that misbehave, each a listener of its own on 127.0.0.1. Run as a process of its own.

Commands on standard input, answers on standard output: `open KIND COUNT` makes so many listeners and tells their
`ports`; `close` closes them and every connection, so that no request stays under way. It runs at the lowest priority:
what an attacker spends is not ours to measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import cycle

import uvloop

from bench.receiver import ANSWER, say

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SLOW_S = 5.0
HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(20_000_000))
_WAITING = 8
"""Connections that fill the queue of a listener that never accepts."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def _request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    await reader.readexactly(int(found[1]) if found else 0)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accepts, reads, never writes."""
    while await reader.read(65_536):
        pass


def answers(after_s: float) -> Script:
    """Answers each request so late."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await _request(reader)
            await asyncio.sleep(after_s)
            writer.write(ANSWER)

    return script


def says(first: bytes, *, forever: bytes = b"", every_s: float = 0.0) -> Script:
    """After the request, `first`; then `forever` again and again, or the connection's end."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(first)
        while forever:
            writer.write(forever)
            await writer.drain()
            await asyncio.sleep(every_s)
        await writer.drain()
        writer.close()

    return script


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a RST."""
    await _request(reader)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HOSTILE: tuple[Script, ...] = (
    says(HEAD + b"\r\n", forever=bytes(65_536)),
    says(HEAD + b"X-Slow: ", forever=b"a", every_s=0.5),
    says(HEAD + b"Content-Length: 9999\r\n\r\n", forever=b"a", every_s=0.5),
    says(CHUNKED, forever=b"1\r\na\r\n", every_s=0.5),
    resets,
    says(bytes(range(256)) * 10),
    says(b"", forever=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500),
    says(HEAD, forever=b"X-A: b\r\n" * 1000),
    says(HEAD + b"X-A: ", forever=b"x" * 65_536),
    says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    says(HEAD + b"Content-Length: 9\r\n\r\nok"),
    says(ANSWER + ANSWER),
    says(b"HTTP/1.1 307 Again\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    says(b"HTTP/1.1 503 No\r\nRetry-After: 1000000000000\r\nContent-Length: 0\r\n\r\n"),
)


@dataclass(slots=True)
class Places:
    """What listens at present."""

    servers: list[asyncio.Server] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    open_now: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, kind: str, count: int) -> list[int]:
        """So many listeners of a kind: `dead` is silent and never accepting by turns, `well` does not misbehave."""
        if kind == "dead":
            return [self._never_accepts() if n % 2 else await self._listen(silent) for n in range(count)]
        scripts = cycle({"well": (answers(0),), "slow": (answers(SLOW_S),), "hostile": HOSTILE}[kind])
        return [await self._listen(next(scripts)) for _ in range(count)]

    def close(self) -> None:
        """Close all."""
        for server in self.servers:
            server.close()
        for sock in self.sockets:
            sock.close()
        for task in tuple(self.open_now):
            task.cancel()
        self.servers, self.sockets = [], []

    async def _listen(self, script: Script) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a server runs each connection in one
            self.open_now.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await script(reader, writer)
            if not writer.is_closing():
                writer.transport.abort()
            self.open_now.discard(task)

        self.servers.append(await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024))
        return int(self.servers[-1].sockets[0].getsockname()[1])

    def _never_accepts(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = int(listener.getsockname()[1])
        self.sockets.append(listener)
        for _ in range(_WAITING):
            self.sockets.append(socket.socket())
            self.sockets[-1].setblocking(False)
            self.sockets[-1].connect_ex(("127.0.0.1", port))
        return port


async def main() -> None:
    """Serve until standard input ends."""
    os.nice(19)
    places, lines = Places(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({})
    while words := (await lines.readline()).decode().split():
        match words:
            case ["open", kind, count]:
                say({"ports": await places.open(kind, int(count))})
            case ["close"]:
                places.close()
                say({})


if __name__ == "__main__":
    uvloop.run(main())
