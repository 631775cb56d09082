"""The transport alone: httpx's interface to one POST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import yarl

from pipeline.http.connector import GuardedConnector, tls_context
from pipeline.http.faults import Blocked
from pipeline.http.guard import EgressPolicy
from pipeline.http.names import NameServers
from pipeline.http.transport import Place, Post, PostTransport
from tests.http.conftest import LOOPBACK
from tests.http.endpoints import HEADERS, OK, answering, closed_port, listening, read_request


@pytest.fixture
async def transport() -> AsyncIterator[PostTransport]:
    """A transport that may reach 127.0.0.0/8."""
    async with _transport(LOOPBACK) as made:
        yield made


def _transport(policy: EgressPolicy) -> PostTransport:
    names, tls = NameServers(), tls_context()
    return PostTransport(GuardedConnector(policy, names, tls), tls)


def _post(url: str, headers: tuple[tuple[str, str], ...] = HEADERS) -> Post:
    return Post(Place.of(yarl.URL(url)), headers, b"{}")


async def test_speaks_httpx(transport: PostTransport) -> None:
    """A request is httpx's, its response too: status, raw headers in order, a stream that gives the raw body."""
    answer = b"HTTP/1.1 418 No\r\nX-B: 1\r\nX-a: 2\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw"
    async with answering(answer) as endpoint:
        response = await transport.handle_async_request(_post(endpoint.url()))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = b"".join([chunk async for chunk in response.stream])
        await response.aclose()
    assert (response.status_code, body) == (418, b"raw")
    assert response.headers.raw[:2] == [(b"X-B", b"1"), (b"X-a", b"2")]


async def test_failures_are_errors_of_httpx(transport: PostTransport) -> None:
    """A refused connection, a broken one and an answer that is no HTTP are errors of httpx, with their causes."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with listening(garbage) as speaks, listening(silence) as hangs_up:
        for url in (speaks.url(), hangs_up.url(), f"http://127.0.0.1:{closed_port()}/"):
            with pytest.raises(httpx.TransportError) as caught:
                await transport.handle_async_request(_post(url))
            assert caught.value.__cause__ is not None


async def test_body_that_breaks_off_is_an_error_of_httpx(transport: PostTransport) -> None:
    """A body that ends early raises an error of httpx where it is read."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha")
        await writer.drain()
        writer.close()

    async with listening(script) as endpoint:
        response = await transport.handle_async_request(_post(endpoint.url()))
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        with pytest.raises(httpx.TransportError):
            assert [chunk async for chunk in stream] == []
        await stream.aclose()


async def test_line_break_in_a_header_is_never_sent(transport: PostTransport) -> None:
    """A header with a line break is our mistake: it raises, and nothing of the request is sent."""
    async with answering(OK) as endpoint:
        for name, value in (("x-a", "1\r\nx-b: 2"), ("x-a\n", "1"), ("x-a", "\x00")):
            with pytest.raises(ValueError, match="control character"):
                await transport.handle_async_request(_post(endpoint.url(), ((name, value),)))
        response = await transport.handle_async_request(_post(endpoint.url()))
        await response.aclose()
    assert len(endpoint.requests) == 1


@pytest.mark.egress
async def test_guard_stands_in_its_way() -> None:
    """The connector's guard decides about every connection of the transport."""
    async with answering() as endpoint, _transport(EgressPolicy()) as guarded:
        with pytest.raises(httpx.TransportError) as caught:
            await guarded.handle_async_request(_post(endpoint.url()))
    assert endpoint.connections == 0
    assert isinstance(caught.value.__cause__.__cause__, Blocked)  # type: ignore[union-attr]
