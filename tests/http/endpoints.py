"""Endpoints for tests: real listeners on the loopback that do what a script says, and count."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import trustme

from pipeline.flow.deliver import OutgoingRequest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = (
    ("content-type", "application/json"),
    ("user-agent", "Pipeline/1"),
    ("webhook-id", "msg_1"),
    ("webhook-timestamp", "1614265330"),
    ("webhook-signature", "v1,c2lnbmF0dXJl"),
)


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, in whatever case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Endpoint:
    """A listener: where it is, and what has come."""

    host: str
    scheme: str = "http"
    port: int = 0
    connections: int = 0
    requests: list[Received] = field(default_factory=list)

    def url(self, path: str = "/hook", host: str = "") -> str:
        """A URL here, under its address or another name."""
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[Received], bytes]


def post(url: str, deadline_s: float = 5, **options: object) -> OutgoingRequest:
    """A small delivery."""
    return OutgoingRequest(
        url=url,
        headers=options.pop("headers", HEADERS),  # type: ignore[arg-type]
        body=options.pop("body", b'{"a":1}'),  # type: ignore[arg-type]
        deadline_s=deadline_s,
        **options,  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def listening(
    script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Endpoint]:
    """A listener that runs `script` for each connection, and ends with the block."""
    endpoint = Endpoint(host, "https" if tls else "http")
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoint.connections += 1
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer)
        writer.transport.abort()
        open_now.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in tuple(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


@contextlib.asynccontextmanager
async def answering(
    answer: Answer | bytes = OK, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Endpoint]:
    """A well-behaved endpoint: reads each request whole, and answers it on the same connection."""
    received: list[Received] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            received.append(request)
            writer.write(answer if isinstance(answer, bytes) else answer(request))
            await writer.drain()

    async with listening(script, host, tls, port) as endpoint:
        endpoint.requests = received
        yield endpoint


@contextlib.asynccontextmanager
async def canary(host: str = "127.0.0.1") -> AsyncIterator[Endpoint]:
    """A listener that must never be hit."""
    async with answering(host=host) as endpoint:
        yield endpoint
        assert endpoint.connections == 0


@contextlib.asynccontextmanager
async def loopback_canaries() -> AsyncIterator[tuple[Endpoint, Endpoint]]:
    """A listener on each of the loopback's addresses, IPv4 and IPv6, under one port. Whether it is hit is for tests."""
    async with contextlib.AsyncExitStack() as stack:
        fourth = await stack.enter_async_context(answering())
        sixth = await stack.enter_async_context(answering(host="::1", port=fourth.port))
        yield fourth, sixth


async def read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2]))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(head[0], headers, await reader.readexactly(length))


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def tls_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
