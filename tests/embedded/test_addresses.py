from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pipeline.embedded import EmbeddedError
from pipeline.embedded.addresses import HOST, claim, free_port, http_status, is_free, kafka_answers


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_refused(taken: int) -> None:
    """A port that another program listens on is named together with what to do."""
    with pytest.raises(EmbeddedError, match=rf"Port {taken} for Kafka is taken .* --kafka-port \(0: any\)"):
        claim(taken, "Kafka", "--kafka-port")


def test_the_port_asked_for_is_used() -> None:
    """A free port that was asked for is taken as it is."""
    port = free_port()
    assert claim(port, "Kafka", "--kafka-port") == port


def test_free_ports_lie_below_the_ephemeral_range() -> None:
    """A free port is one that no outgoing connection is given, so that a server can come back to it."""
    port = claim(0, "Kafka", "--kafka-port")
    assert port < 32768
    assert is_free(port)


async def test_status_of_a_server() -> None:
    """The status is what the server answers, also to a PUT with a body."""
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append((head.split()[0], await reader.readexactly(2)))
        writer.write(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await http_status(port, "/readyz", "PUT", b"{}") == 503
    assert seen == [(b"PUT", b"{}")]


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_what_is_no_server_of_ours_has_no_status(said: bytes) -> None:
    """Silence and foreign protocols count as no answer, not as an error."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await http_status(port, "/readyz") == 0
        assert not await kafka_answers(port)


async def test_nobody_listens() -> None:
    """A port without a server has no status and no broker."""
    port = free_port()
    assert await http_status(port, "/readyz") == 0
    assert not await kafka_answers(port)
