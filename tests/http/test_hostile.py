"""Endpoints that misbehave: each is bounded by the delivery's deadline, and none harms a neighbour."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from pipeline.flow.deliver import Outcome, Verdict
from pipeline.http.client import DeliveryClient
from tests.http.conftest import MakeClient
from tests.http.endpoints import OK, Endpoint, Script, answering, listening, post, read_request, tls_for

pytestmark = pytest.mark.hostile

DEADLINE_S = 0.5
OVER_S = 1.0
ENDLESS = b"x" * 65_536
HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(50_000_000))


async def send(client: DeliveryClient, endpoint: Endpoint, body: bytes = b"{}") -> Outcome:
    """Send to the endpoint while a neighbour gets its own deliveries; both in time."""
    async with answering() as neighbour:
        started = time.monotonic()
        outcome, *others = await asyncio.gather(
            client.send(post(endpoint.url(), DEADLINE_S, body=body)),
            *(client.send(post(neighbour.url(), DEADLINE_S)) for _ in range(3)),
        )
        assert time.monotonic() - started < DEADLINE_S + OVER_S
        assert [other.status for other in others] == [200, 200, 200]
    return outcome


def says(*parts: bytes, then_close: bool = False, forever: bytes = b"", every_s: float = 0) -> Script:
    """A script: read the request, write the parts, then repeat `forever` or wait or close."""

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


async def never_reads(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


def resets(*parts: bytes) -> Script:
    """A script that ends the connection with a RST."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in parts:
            writer.write(part)
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return script


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CASES: dict[str, tuple[Script, Verdict, int | None]] = {
    "never answers": (says(), Verdict.TIMEOUT, None),
    "never reads": (never_reads, Verdict.TIMEOUT, None),
    "header drip": (says(HEAD + b"X-Slow: ", forever=b"a", every_s=0.02), Verdict.TIMEOUT, None),
    "status drip": (says(forever=b"H", every_s=0.02), Verdict.PROTOCOL, None),
    "body drip": (says(HEAD + b"Content-Length: 9999\r\n\r\n", forever=b"a", every_s=0.02), Verdict.TIMEOUT, 200),
    "chunk drip": (says(CHUNKED, forever=b"1\r\na\r\n", every_s=0.02), Verdict.TIMEOUT, 200),
    "1xx drip": (says(forever=b"HTTP/1.1 102 Processing\r\n\r\n", every_s=0.1), Verdict.TIMEOUT, None),
    "1xx flood": (says(forever=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500), Verdict.PROTOCOL, None),
    "header flood": (says(HEAD, forever=b"X-A: b\r\n" * 1000), Verdict.PROTOCOL, None),
    "endless header": (says(HEAD + b"X-A: ", forever=ENDLESS), Verdict.TOO_LARGE, None),
    "endless status": (says(b"HTTP/1.1 200 ", forever=ENDLESS), Verdict.TOO_LARGE, None),
    "garbage": (says(bytes(range(256)) * 10), Verdict.PROTOCOL, None),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), Verdict.PROTOCOL, None),
    "negative length": (says(HEAD + b"Content-Length: -1\r\n\r\n"), Verdict.PROTOCOL, None),
    "two lengths": (says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), Verdict.PROTOCOL, None),
    "too short": (says(HEAD + b"Content-Length: 9\r\n\r\nok", then_close=True), Verdict.PROTOCOL, 200),
    "broken chunk": (says(CHUNKED + b"zz\r\n"), Verdict.PROTOCOL, None),
    "reset at once": (resets(), Verdict.CONNECT, None),
    "reset in the head": (resets(HEAD), Verdict.CONNECT, None),
    "close at once": (says(then_close=True), Verdict.CONNECT, None),
}


@pytest.mark.parametrize(("script", "verdict", "status"), CASES.values(), ids=CASES)
async def test_misbehaviour_is_bounded(
    script: Script, verdict: Verdict, status: int | None, client: DeliveryClient
) -> None:
    """A misbehaving endpoint costs one delivery its deadline at most, and its verdict says what happened."""
    async with listening(script) as endpoint:
        outcome = await send(client, endpoint, body=bytes(8_000_000) if script is never_reads else b"{}")
        assert (outcome.failure, outcome.status) == (verdict, status)
        assert endpoint.connections == 1


@pytest.mark.parametrize(
    "script", [CASES[name][0] for name in ("1xx flood", "header flood", "endless header", "garbage")]
)
async def test_flood_ends_at_once(script: Script, client: DeliveryClient) -> None:
    """A flood is cut off when its limit is reached, long before the deadline."""
    async with listening(script) as endpoint:
        outcome = await client.send(post(endpoint.url(), deadline_s=30))
    assert outcome.duration_ms < 2000


@pytest.mark.parametrize(
    "head", [HEAD + b"\r\n", HEAD + b"Content-Length: 9999999999\r\n\r\n"], ids=["no length", "long"]
)
async def test_endless_body_is_cut(head: bytes, client: DeliveryClient) -> None:
    """Of a body without end 16 KiB are kept, the connection is closed, and the status stands: it was delivered."""
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await says(head, forever=ENDLESS)(reader, writer)
        finally:
            closed.set()

    async with listening(script) as endpoint:
        outcome = await send(client, endpoint)
        await asyncio.wait_for(closed.wait(), 5)
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, ENDLESS[:16_384])


async def test_compressed_body_stays_compressed(client: DeliveryClient) -> None:
    """A gzip bomb is never unpacked: what is kept are the raw bytes."""
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    async with listening(says(head + BOMB)) as endpoint:
        outcome = await send(client, endpoint)
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, BOMB[:16_384])


async def test_answer_cut_at_each_byte(client: DeliveryClient) -> None:
    """An answer that ends early, at whichever byte, is a failure, never a delivery."""
    seen = set()
    for size in range(len(OK)):
        async with listening(says(OK[:size], then_close=True)) as endpoint:
            outcome = await client.send(post(endpoint.url(), DEADLINE_S))
            seen.add(outcome.failure)
            assert outcome.failure is not None
    assert seen == {Verdict.CONNECT, Verdict.PROTOCOL}


async def test_second_answer_is_never_taken_for_the_next(client: DeliveryClient) -> None:
    """A second answer on the same connection, at once or later, closes it; the next delivery gets its own answer."""
    for pause_s in (0.0, 0.02):
        closed = asyncio.Event()

        async def script(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            pause_s: float = pause_s,
            closed: asyncio.Event = closed,
        ) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(pause_s)
            writer.write(OK)
            with contextlib.suppress(ConnectionError):
                await reader.read()  # returns when the client has closed
            closed.set()

        async with listening(script) as endpoint:
            first = await client.send(post(endpoint.url(), DEADLINE_S))
            await asyncio.wait_for(closed.wait(), 1)
            second = await client.send(post(endpoint.url(), DEADLINE_S))
            assert (first.status, second.status, endpoint.connections) == (500, 500, 2)


async def test_few_interim_answers_are_fine(client: DeliveryClient) -> None:
    """Interim answers before the answer are passed over."""
    async with listening(says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK)) as endpoint:
        outcome = await send(client, endpoint)
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, b"ok")


async def test_switch_of_protocols_ends_the_connection(client: DeliveryClient) -> None:
    """An answer 101, which nobody asked for, is an answer like others, and its connection is not used again."""
    async with listening(
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    ) as endpoint:
        outcomes = [await client.send(post(endpoint.url(), DEADLINE_S)) for _ in range(2)]
        assert all(outcome.status == 101 for outcome in outcomes)
        assert endpoint.connections == 2


async def test_connection_that_is_never_accepted(client: DeliveryClient) -> None:
    """A listener whose queue is full costs the deadline."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        outcome = await send(client, Endpoint("127.0.0.1", port=port))
    assert outcome.failure is Verdict.TIMEOUT


async def test_body_in_tiny_chunks(client: DeliveryClient) -> None:
    """A body in thousands of tiny chunks, which pauses the reading, is read to its end, and its connection kept."""
    body = CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    async with answering(body) as endpoint:
        outcomes = [await client.send(post(endpoint.url(), DEADLINE_S)) for _ in range(2)]
    assert [(o.failure, o.status, o.body) for o in outcomes] == [(None, 200, b"a" * 10_000)] * 2
    assert endpoint.connections == 1


async def test_request_that_is_not_taken_is_dropped_at_the_deadline(client: DeliveryClient) -> None:
    """When a delivery has ended, nothing more of it is sent: an endpoint cannot hold its connection by not reading."""
    ended, received = asyncio.Event(), asyncio.Queue[int]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await ended.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        size = 0
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1_000_000):
                size += len(chunk)
        received.put_nowait(size)

    async with listening(script) as endpoint:
        outcome = await client.send(post(endpoint.url(), DEADLINE_S, body=bytes(16_000_000)))
        ended.set()
        assert outcome.failure is Verdict.TIMEOUT
        assert await asyncio.wait_for(received.get(), 5) < 16_000_000


async def test_answer_before_the_whole_request_was_taken(client: DeliveryClient) -> None:
    """An answer that comes before the endpoint has taken the request counts, but its connection is not used again."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(OK)
        await asyncio.Event().wait()

    async with listening(script) as endpoint:
        big = post(endpoint.url(), DEADLINE_S, body=bytes(16_000_000))
        outcomes = [await client.send(big) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert endpoint.connections == 2


@contextlib.asynccontextmanager
async def tls_answering(context: ssl.SSLContext) -> AsyncIterator[Endpoint]:
    async with answering(tls=context) as endpoint:
        endpoint.host = "localhost"
        yield endpoint


def _expired(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    authority.issue_cert("localhost", not_before=yesterday - timedelta(days=9), not_after=yesterday).configure_cert(
        context
    )
    return context


@pytest.mark.parametrize("fault", ["self-signed", "wrong host", "expired"])
async def test_wrong_certificate(fault: str, authority: trustme.CA, ca_file: Path, make_client: MakeClient) -> None:
    """A certificate that is not by a known authority, not for this host or not valid any more is verdict `tls`."""
    contexts = {
        "self-signed": lambda: tls_for(trustme.CA(), "localhost"),
        "wrong host": lambda: tls_for(authority, "hooks.customer.com"),
        "expired": lambda: _expired(authority),
    }
    async with tls_answering(contexts[fault]()) as endpoint:
        outcome = await send(make_client(ca_file=ca_file), endpoint)
    assert (outcome.failure, endpoint.requests) == (Verdict.TLS, [])


async def test_handshake_that_stalls(make_client: MakeClient) -> None:
    """A handshake that is never answered costs the deadline."""

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)

    async with listening(script) as endpoint:
        endpoint.scheme = "https"
        outcome = await send(make_client(), endpoint)
    assert outcome.failure is Verdict.TIMEOUT


async def test_plain_http_where_tls_is_expected(make_client: MakeClient) -> None:
    """An https endpoint that speaks plain HTTP is verdict `tls`."""
    async with listening(lambda _reader, writer: _say_at_once(writer)) as endpoint:
        endpoint.scheme = "https"
        outcome = await send(make_client(), endpoint)
    assert outcome.failure is Verdict.TLS


async def _say_at_once(writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await writer.drain()
    await asyncio.sleep(DEADLINE_S)
