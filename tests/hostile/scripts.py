"""How receivers misbehave: scripts for one connection each."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import trustme

from tests.http.endpoints import OK, Endpoint, Received, Script, answering, listening, read_request, redirect, tls_for

ENDLESS = b"x" * 65_536
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(50_000_000))
_STALL_S = 3.0


def says(*parts: bytes, then_close: bool = False, forever: bytes = b"", every_s: float = 0) -> Script:
    """Read the request, write the parts, then repeat `forever` or wait or close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in parts:
            writer.write(part)
        while forever:
            writer.write(forever)
            await writer.drain()
            await asyncio.sleep(every_s)
        await writer.drain()
        if then_close:
            writer.close()
        await reader.read()

    return script


def resets(*parts: bytes) -> Script:
    """End the connection with a RST after these parts."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in parts:
            writer.write(part)
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return script


def answers_twice(pause_s: float, closed: asyncio.Event | None = None) -> Script:
    """Answer 500, and after the pause 200, which nobody has asked for."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(pause_s)
        writer.write(OK)
        with contextlib.suppress(ConnectionError):
            await reader.read()  # returns when the client has closed
        if closed is not None:
            closed.set()

    return script


async def never_reads(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave the request where it is."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def stalls(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Take the client's first words and say nothing."""
    await reader.readexactly(1_000_000)


def says_at_once(what: bytes) -> Script:
    """Speak before anything was asked."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        await writer.drain()
        await asyncio.sleep(_STALL_S)

    return script


@contextlib.asynccontextmanager
async def never_accepting() -> AsyncIterator[Endpoint]:
    """A listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield Endpoint("127.0.0.1", port=port)


@contextlib.asynccontextmanager
async def redirecting(*, to: str) -> AsyncIterator[Endpoint]:
    """A redirect to `to` for ever, in which `{n}` is another number each time."""
    numbers = itertools.count()

    def answer(_request: Received) -> bytes:
        return redirect(307, to.format(n=next(numbers)))

    async with answering(answer) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def secured(context: ssl.SSLContext) -> AsyncIterator[Endpoint]:
    """A well-behaved endpoint but for its certificate."""
    async with answering(tls=context) as endpoint:
        endpoint.host = "localhost"
        yield endpoint


@contextlib.asynccontextmanager
async def behind_https(script: Script) -> AsyncIterator[Endpoint]:
    """A script where the URL says that TLS is spoken."""
    async with listening(script) as endpoint:
        endpoint.scheme = "https"
        yield endpoint


def self_signed() -> ssl.SSLContext:
    """By an authority that nobody knows."""
    return tls_for(trustme.CA(), "localhost")


def expired(authority: trustme.CA) -> ssl.SSLContext:
    """Valid until yesterday."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    issued = authority.issue_cert("localhost", not_before=yesterday - timedelta(days=9), not_after=yesterday)
    issued.configure_cert(context)
    return context
