"""A receiver: writes down what it got, then answers. `python -m tests.faults.receiver PORT LEDGER`.

The path says how it answers: `/KIND/TENANT/WEBHOOK`. At SIGUSR1 it is gone (what it has written down it still
answers), at SIGUSR2 back.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import cast
from zlib import crc32

import uvloop

from tests.faults.ledger import Kind, append, digest

SLOW_S = 1.5
ONE_IN = 4
"""Of so many deliveries a flaky receiver refuses one at first: at half of all requests the circuit breaker opens."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_IDS = [
    re.compile(rb"\r\n%b: *([^\r\n]+)" % name, re.IGNORECASE)
    for name in (b"webhook-id", b"webhook-replay-id", b"webhook-first-id")
]
_DATA = b'"data":'


class Book:
    """What all connections share: the ledger's file, and which deliveries have been refused once."""

    def __init__(self, path: Path) -> None:
        self.file = append(path)
        self.refused: set[str] = set()
        self.connections: set[Endpoint] = set()

    def write(self, path: str, ids: list[str], body: bytes) -> tuple[int, float]:
        """Write one request down; the status to answer with, and after how long.

        `ids` are its webhook-id, its replay's and the first webhook-id; empty where there is none.
        """
        webhook_id, replay, first = ids
        _, kind, tenant, webhook = path.split("/")
        status = self._status(kind, webhook_id)
        data = body[body.index(_DATA) + len(_DATA) : -1]
        told = json.loads(data)
        fields = webhook_id, tenant, webhook, told["id"], told["tenant"], digest(data), status, now_ms(), replay, first
        os.write(self.file, ("\t".join(map(str, fields)) + "\n").encode())
        return status, SLOW_S if kind == Kind.SLOW else 0.0

    def _status(self, kind: str, webhook_id: str) -> int:
        if kind != Kind.FLAKY or webhook_id in self.refused or crc32(webhook_id.encode()) % ONE_IN:
            return 200
        self.refused.add(webhook_id)
        return 503


class Endpoint(asyncio.Protocol):
    """One connection of HTTP/1.1 with keep-alive, one request at a time."""

    def __init__(self, book: Book) -> None:
        self.book, self.buffer, self.owing, self.leaving = book, b"", 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.book.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The other side has gone."""
        self.book.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Write down and answer every whole request; one that comes when we are leaving is not looked at."""
        self.buffer += data
        while not self.leaving and (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.buffer, 0, head + 2)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < end:
                return
            self._take(self.buffer[: head + 2], self.buffer[head + 4 : end])
            self.buffer = self.buffer[end:]

    def _take(self, head: bytes, body: bytes) -> None:
        ids = [found[1].decode() if (found := pattern.search(head)) else "" for pattern in _IDS]
        path = head.split(b" ", 2)[1].decode()
        status, after_s = self.book.write(path, ids, body)
        self.owing += 1
        if after_s:
            asyncio.get_running_loop().call_later(after_s, self._answer, status)
        else:
            self._answer(status)

    def _answer(self, status: int) -> None:
        self.owing -= 1
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %d Said\r\nContent-Length: 2\r\n\r\nok" % status)
        self.leave(self.leaving)

    def leave(self, wanted: bool) -> None:  # noqa: FBT001 - what the signal said
        """Close the connection as soon as all that was written down is answered."""
        self.leaving = wanted
        if wanted and not self.owing:
            self.transport.close()


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


async def main(port: int, ledger: Path) -> None:
    """Serve until killed."""
    loop, book = asyncio.get_running_loop(), Book(ledger)
    there = asyncio.Event()
    gone = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, gone.set)
    loop.add_signal_handler(signal.SIGUSR2, there.set)
    while True:
        server = await loop.create_server(lambda: Endpoint(book), "127.0.0.1", port, backlog=1024)
        await gone.wait()
        gone.clear()
        server.close()
        for connection in list(book.connections):
            connection.leave(wanted=True)
        await there.wait()
        there.clear()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
