"""What is kept of an answer that goes too far, and what becomes of its connection."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pipeline.flow.deliver import Verdict
from pipeline.http.client import DeliveryClient
from tests.hostile.scripts import BOMB, CHUNKED, ENDLESS, HEAD, answers_twice, says
from tests.http.endpoints import OK, answering, listening, post

pytestmark = pytest.mark.hostile

DEADLINE_S = 0.5


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
        outcome = await client.send(post(endpoint.url(), deadline_s=30))
        await asyncio.wait_for(closed.wait(), 5)
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, ENDLESS[:16_384])


async def test_compressed_body_stays_compressed(client: DeliveryClient) -> None:
    """A gzip bomb is never unpacked: what is kept are the raw bytes."""
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    async with listening(says(head + BOMB)) as endpoint:
        outcome = await client.send(post(endpoint.url(), DEADLINE_S))
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, BOMB[:16_384])


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_second_answer_is_never_taken_for_the_next(pause_s: float, client: DeliveryClient) -> None:
    """A second answer on the same connection, at once or later, closes it; the next delivery gets its own answer."""
    closed = asyncio.Event()
    async with listening(answers_twice(pause_s, closed)) as endpoint:
        first = await client.send(post(endpoint.url(), DEADLINE_S))
        await asyncio.wait_for(closed.wait(), 1)
        second = await client.send(post(endpoint.url(), DEADLINE_S))
        assert (first.status, second.status, endpoint.connections) == (500, 500, 2)


async def test_few_interim_answers_are_fine(client: DeliveryClient) -> None:
    """Interim answers before the answer are passed over."""
    async with listening(says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK)) as endpoint:
        outcome = await client.send(post(endpoint.url(), DEADLINE_S))
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, b"ok")


async def test_switch_of_protocols_ends_the_connection(client: DeliveryClient) -> None:
    """An answer 101, which nobody asked for, is an answer like others, and its connection is not used again."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with listening(says(switch)) as endpoint:
        outcomes = [await client.send(post(endpoint.url(), DEADLINE_S)) for _ in range(2)]
        assert all(outcome.status == 101 for outcome in outcomes)
        assert endpoint.connections == 2


async def test_body_in_tiny_chunks(client: DeliveryClient) -> None:
    """A body in thousands of tiny chunks, which pauses the reading, is read to its end, and its connection kept."""
    body = CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    async with answering(body) as endpoint:
        outcomes = [await client.send(post(endpoint.url(), DEADLINE_S)) for _ in range(2)]
    assert [(o.failure, o.status, o.body) for o in outcomes] == [(None, 200, b"a" * 10_000)] * 2
    assert endpoint.connections == 1


class Unwilling:
    """An endpoint that takes nothing of a request, `says` something, and later reads what is still being sent."""

    def __init__(self, says: bytes = b"") -> None:
        self.says, self.ended, self.received = says, asyncio.Event(), asyncio.Queue[int]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(self.says)
        await self.ended.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        size = 0
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1_000_000):
                size += len(chunk)
        self.received.put_nowait(size)


async def test_request_that_is_not_taken_is_dropped_at_the_deadline(client: DeliveryClient) -> None:
    """When a delivery has ended, nothing more of it is sent: an endpoint cannot hold its connection by not reading."""
    unwilling = Unwilling()
    async with listening(unwilling) as endpoint:
        outcome = await client.send(post(endpoint.url(), DEADLINE_S, body=bytes(16_000_000)))
        unwilling.ended.set()
        assert outcome.failure is Verdict.TIMEOUT
        assert await asyncio.wait_for(unwilling.received.get(), 5) < 16_000_000


async def test_answer_before_the_whole_request_was_taken(client: DeliveryClient) -> None:
    """An answer that comes before the endpoint has taken the request counts, but its connection is not used again.

    Nothing more of the request is sent.
    """
    unwilling = Unwilling(OK)
    async with listening(unwilling) as endpoint:
        big = post(endpoint.url(), DEADLINE_S, body=bytes(16_000_000))
        outcomes = [await client.send(big) for _ in range(2)]
        unwilling.ended.set()
        sizes = [await asyncio.wait_for(unwilling.received.get(), 5) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert endpoint.connections == 2
    assert max(sizes) < 16_000_000
