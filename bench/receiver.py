"""A receiver that is no bottleneck: answers 200 to every POST and notes when it came. Run as a process of its own.

Commands come on its standard input, a line each; answers are JSON lines on its standard output:
`reset` forgets what was counted, `count` tells it, `ages` tells how old each event was (ms) when its request came,
`times` tells of each event its number, when it was sent and when its request came (ns since the epoch).
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import sys
import time
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SENT = re.compile(rb'"sent_ns":(\d+),"n":(\d+)')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BACKLOG = 4096


class Tally:
    """What has been received since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.requests, self.first_ns, self.last_ns = 0, 0, 0
        self.times: list[tuple[int, int, int]] = []

    def add(self, body: bytes) -> None:
        """Note one request."""
        self.last_ns = time.time_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.requests += 1
        if (sent := SENT.search(body)) is not None:
            self.times.append((int(sent[2]), int(sent[1]), self.last_ns))


class Endpoint(asyncio.Protocol):
    """One connection of HTTP/1.1 with keep-alive, one request at a time."""

    def __init__(self, tally: Tally, delay_s: float) -> None:
        self.tally, self.delay_s, self.buffer = tally, delay_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            found = LENGTH.search(self.buffer, 0, head + 2)
            end = head + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < end:
                return
            self.tally.add(self.buffer[head + 4 : end])
            self.buffer = self.buffer[end:]
            self.answer()

    def answer(self) -> None:
        """Now, or after the delay."""
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._write)
        else:
            self.transport.write(ANSWER)

    def _write(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main(delay_s: float, *, everywhere: bool) -> None:
    """Serve until standard input ends."""
    loop, tally = asyncio.get_running_loop(), Tally()
    listener = on_all_of_loopback() if everywhere else socket.create_server(("127.0.0.1", 0))
    await loop.create_server(lambda: Endpoint(tally, delay_s), sock=listener, backlog=BACKLOG)
    say({"port": listener.getsockname()[1]})
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().strip():
        match line:
            case "reset":
                tally.reset()
                say({})
            case "count":
                say({"requests": tally.requests, "first_ns": tally.first_ns, "last_ns": tally.last_ns})
            case "ages":
                say({"ages_ms": [(received - sent) / 1e6 for _, sent, received in tally.times]})
            case "times":
                say({"times": tally.times})


def on_all_of_loopback() -> socket.socket:
    """A listener on each of 127.0.0.0/8, bound to the loopback's device: nobody else reaches it. Linux alone can."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", 0))  # noqa: S104 - on this device alone
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return listener


def say(answer: dict[str, object]) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), everywhere=sys.argv[2:] == ["everywhere"]))
