"""Deliveries through an egress proxy: a real CONNECT proxy on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import trustme

from pipeline.errors import SettingsError
from pipeline.flow.deliver import Verdict
from pipeline.http.guard import EgressPolicy
from pipeline.http.proxy import EgressProxy
from tests.hostile.scripts import resets, says
from tests.http.conftest import MakeClient
from tests.http.endpoints import (
    Endpoint,
    Received,
    Script,
    answering,
    closed_port,
    listening,
    post,
    read_request,
    tls_for,
)

pytestmark = pytest.mark.egress

NAME = "hooks.customer.com"
PUBLIC = "93.184.216.34"


async def public(_host: str) -> Sequence[str]:
    return [PUBLIC]


@contextlib.asynccontextmanager
async def proxy_to(port: int, reply: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> AsyncIterator[Endpoint]:
    """A proxy that leads every tunnel to the loopback's `port`, wherever it was asked to lead."""
    asked: list[Received] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(reply)
        if b" 200 " not in reply:
            await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        both = asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        try:
            await both
        finally:
            far_writer.transport.abort()

    async with listening(script) as proxy:
        proxy.requests = asked
        yield proxy


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.transport.abort()


def policy_for(endpoint: Endpoint) -> EgressPolicy:
    return EgressPolicy(https_required=False, ports=frozenset({endpoint.port}))


async def test_tunnel_to_the_judged_address(authority: trustme.CA, ca_file: Path, make_client: MakeClient) -> None:
    """The proxy is asked for the literal address that we have judged; TLS and Host inside the tunnel keep the name."""
    async with answering(tls=tls_for(authority, NAME)) as endpoint, proxy_to(endpoint.port) as proxy:
        client = make_client(policy_for(endpoint), proxy=proxy.url(""), lookup=public, ca_file=ca_file)
        outcomes = [await client.send(post(endpoint.url(host=NAME))) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert [request.line for request in proxy.requests] == [f"CONNECT {PUBLIC}:{endpoint.port} HTTP/1.1"]
    assert endpoint.requests[0].header("host") == f"{NAME}:{endpoint.port}"


async def test_plain_http_is_tunnelled_too(make_client: MakeClient) -> None:
    """A plain http request goes through a tunnel as well: the proxy never chooses the address."""
    async with answering() as endpoint, proxy_to(endpoint.port) as proxy:
        client = make_client(policy_for(endpoint), proxy=proxy.url(""), lookup=public)
        outcome = await client.send(post(endpoint.url(host=NAME)))
    assert outcome.status == 200
    assert endpoint.requests[0].line == "POST /hook HTTP/1.1"


async def test_credentials_go_to_the_proxy_alone(make_client: MakeClient) -> None:
    """The proxy's user and password are sent to the proxy and never to the endpoint."""
    async with answering() as endpoint, proxy_to(endpoint.port) as proxy:
        client = make_client(policy_for(endpoint), proxy=f"http://me:s%40fe@127.0.0.1:{proxy.port}", lookup=public)
        await client.send(post(endpoint.url(host=NAME)))
    assert proxy.requests[0].header("proxy-authorization") == "Basic bWU6c0BmZQ=="
    assert endpoint.requests[0].header("proxy-authorization") is None


async def test_denied_address_is_not_asked_of_the_proxy(make_client: MakeClient) -> None:
    """An address that may not be reached directly may not be reached through the proxy."""

    async def inside(_host: str) -> Sequence[str]:
        return ["169.254.169.254"]

    async with answering() as endpoint, proxy_to(endpoint.port) as proxy:
        client = make_client(policy_for(endpoint), proxy=proxy.url(""), lookup=inside)
        outcome = await client.send(post(endpoint.url(host=NAME)))
    assert (outcome.failure, proxy.connections) == (Verdict.BLOCKED, 0)


async def test_allowed_networks_are_reached_directly(make_client: MakeClient) -> None:
    """A connection into an allowed network does not go through the proxy, whose loopback is another."""
    async with answering() as endpoint, proxy_to(endpoint.port) as proxy:
        outcome = await make_client(proxy=proxy.url("")).send(post(endpoint.url()))
    assert (outcome.status, proxy.connections) == (200, 0)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Verdict.PROXY),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Verdict.PROXY),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Verdict.CONNECT),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", Verdict.CONNECT),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Verdict.PROXY),
        (b"x" * 10_000, Verdict.PROXY),
    ],
)
async def test_fault_of_the_proxy(reply: bytes, verdict: Verdict, make_client: MakeClient) -> None:
    """A proxy's own fault is verdict `proxy`; what it says of an endpoint that it cannot reach is `connect`."""
    async with answering() as endpoint, proxy_to(endpoint.port, reply) as proxy:
        client = make_client(policy_for(endpoint), proxy=proxy.url(""), lookup=public)
        outcome = await client.send(post(endpoint.url(host=NAME)))
    assert (outcome.failure, endpoint.connections) == (verdict, 0)


@pytest.mark.parametrize("parts", [(), (b"HTTP/1.1 200 Conn",)], ids=["at once", "in its reply"])
@pytest.mark.parametrize("ends", [lambda parts: says(*parts, then_close=True), lambda parts: resets(*parts)])
async def test_proxy_that_breaks_off(
    parts: tuple[bytes, ...], ends: Callable[[tuple[bytes, ...]], Script], make_client: MakeClient
) -> None:
    """A proxy that closes or resets the connection before it has answered is verdict `proxy`."""
    async with listening(ends(parts)) as proxy:
        outcome = await make_client(proxy=proxy.url(""), lookup=public).send(post(f"https://{NAME}/"))
    assert outcome.failure is Verdict.PROXY


async def test_tunnel_that_breaks(make_client: MakeClient) -> None:
    """What breaks in an open tunnel is between the endpoint and us: not the proxy's fault."""
    async with listening(says(b"HTTP/1.1 200 Connected\r\n\r\n", then_close=True)) as proxy:
        outcome = await make_client(proxy=proxy.url(""), lookup=public).send(post(f"https://{NAME}/"))
    assert outcome.failure is Verdict.CONNECT


async def test_proxy_that_is_down(make_client: MakeClient) -> None:
    """A proxy that cannot be reached is verdict `proxy`."""
    client = make_client(proxy=f"http://127.0.0.1:{closed_port()}", lookup=public)
    outcome = await client.send(post(f"https://{NAME}/"))
    assert outcome.failure is Verdict.PROXY


@pytest.mark.parametrize(
    "url", ["proxy:3128", "https://proxy:3128", "http://proxy", "http://u:secret@:1", "http://p:x"]
)
def test_unreadable_proxy_stops_the_start(url: str) -> None:
    """A proxy setting that cannot be used is a settings error that tells no password."""
    with pytest.raises(SettingsError) as error:
        EgressProxy.parse(url)
    assert "secret" not in str(error.value)
