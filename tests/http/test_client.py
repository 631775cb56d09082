"""The delivery client against real endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from pipeline.errors import SettingsError
from pipeline.flow.deliver import Verdict
from pipeline.http.client import DeliveryClient
from pipeline.http.connector import tls_context
from pipeline.http.faults import NotResolved
from pipeline.http.guard import EgressPolicy
from pipeline.http.names import NameServers
from tests.http.conftest import MakeClient
from tests.http.endpoints import (
    HEADERS,
    OK,
    Endpoint,
    Received,
    answering,
    canary,
    closed_port,
    listening,
    post,
    read_request,
    redirect,
    tls_for,
)
from tests.http.name_server import SERVFAIL, Zone, name_server

NAME = "hooks.customer.com"
SECRETS = (("authorization", "Basic c2VjcmV0"), ("x-qase-secret", "hush"), ("x-token", "customer"))
# Any port of the loopback under a public name: what a deployment on a private network looks like.
NAMED = EgressPolicy.parse("127.0.0.0/8 10.9.0.0/16")


async def to_loopback(_host: str) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_request_arrives_as_given(client: DeliveryClient) -> None:
    """A delivery is a POST with exactly the given headers and body, and what HTTP itself needs."""
    async with answering() as endpoint:
        outcome = await client.send(post(endpoint.url("/in?x=1"), body=b'{"a":"\xc3\xa4"}'))
    (request,) = endpoint.requests
    framing = (("host", f"127.0.0.1:{endpoint.port}"), ("accept-encoding", "identity"), ("content-length", "10"))
    assert request.line == "POST /in?x=1 HTTP/1.1"
    assert sorted((name.lower(), value) for name, value in request.headers) == sorted((*HEADERS, *framing))
    assert request.body == b'{"a":"\xc3\xa4"}'
    assert (outcome.failure, outcome.status, outcome.body) == (None, 200, b"ok")
    assert outcome.headers == (("Content-Length", "2"),)


@pytest.mark.parametrize("size", [0, 1, 4_000_000])
async def test_body_of_any_size(size: int, client: DeliveryClient) -> None:
    """Every byte of the body arrives, and its length is told, for an empty one too."""
    async with answering() as endpoint:
        await client.send(post(endpoint.url(), body=b"x" * size))
    assert endpoint.requests[0].body == b"x" * size
    assert endpoint.requests[0].header("content-length") == str(size)


async def test_connection_is_used_again(client: DeliveryClient) -> None:
    """Deliveries to one endpoint after each other share a connection."""
    async with answering() as endpoint:
        for _ in range(5):
            await client.send(post(endpoint.url()))
    assert (len(endpoint.requests), endpoint.connections) == (5, 1)


async def test_connections_to_one_host_can_be_limited(make_client: MakeClient) -> None:
    """With a limit per host, that many requests run at a time and the others wait."""
    async with answering() as endpoint:
        client = make_client(limit_per_host=2)
        outcomes = await asyncio.gather(*(client.send(post(endpoint.url())) for _ in range(10)))
    assert {outcome.status for outcome in outcomes} == {200}
    assert endpoint.connections == 2


async def test_failed_request_is_sent_once(client: DeliveryClient) -> None:
    """A POST whose connection breaks is never sent again by the client itself: each request is one attempt."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)

    async with listening(script) as endpoint:
        outcomes = [await client.send(post(endpoint.url())) for _ in range(2)]
    assert [outcome.failure for outcome in outcomes] == [None, Verdict.CONNECT]
    assert endpoint.connections == 1


async def test_refused_connection(client: DeliveryClient) -> None:
    """A port where nobody listens is verdict `connect`."""
    outcome = await client.send(post(f"http://127.0.0.1:{closed_port()}/"))
    assert (outcome.failure, outcome.status, outcome.body) == (Verdict.CONNECT, None, b"")


async def test_deadline_covers_the_look_up(make_client: MakeClient) -> None:
    """A delivery whose deadline ends during the look-up of the name ends there."""

    async def slow(_host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    outcome = await make_client(lookup=slow).send(post(f"https://{NAME}/", deadline_s=0.1))
    assert outcome.failure is Verdict.TIMEOUT
    assert 90 <= outcome.duration_ms < 1100


@pytest.mark.parametrize("zone", [SERVFAIL, Zone()], ids=["servfail", "no address"])
async def test_name_without_address(zone: Zone, make_client: MakeClient) -> None:
    """A name that cannot be resolved is verdict `dns`."""
    async with name_server({NAME: zone}) as server:
        lookup = NameServers([server.address])
        outcome = await make_client(lookup=lookup).send(post(f"https://{NAME}/"))
        await lookup.close()
    assert outcome.failure is Verdict.DNS


async def test_named_servers_are_asked(make_client: MakeClient) -> None:
    """Where the deployment names its name servers, they and no others say what a name leads to."""
    zone = Zone(answers=[[("A", "127.0.0.1")]])
    async with name_server({NAME: zone}) as server, answering() as endpoint:
        client = make_client(NAMED, name_servers=f"{server.address}, {server.address}")
        outcome = await client.send(post(endpoint.url(host=NAME)))
    assert (outcome.failure, outcome.status, {name for name, _ in server.asked}) == (None, 200, {NAME})


@pytest.mark.parametrize("servers", ["dns.example:53", "127.0.0.1:99999", "127.0.0.1:x"])
async def test_wrong_name_servers(servers: str, make_client: MakeClient) -> None:
    """A name server that is no address and port is the operator's mistake, told at the start."""
    with pytest.raises(SettingsError, match="egress name servers"):
        make_client(name_servers=servers)


async def test_slow_names_hold_up_nobody_else(make_client: MakeClient) -> None:
    """Hundreds of look-ups that hang do not delay the delivery to another name."""

    async def lookup(host: str) -> Sequence[str]:
        if host.startswith("slow"):
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    async with answering() as endpoint:
        client = make_client(NAMED, lookup=lookup)
        hanging = [
            asyncio.create_task(client.send(post(f"https://slow{i}.customer.com/", deadline_s=1))) for i in range(300)
        ]
        outcome = await client.send(post(endpoint.url(host=NAME)))
        assert (outcome.status, any(task.done() for task in hanging)) == (200, False)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_name_stays_in_host_sni_and_certificate(
    authority: trustme.CA, ca_file: Path, make_client: MakeClient
) -> None:
    """The connection goes to the judged address, while Host, SNI and the certificate's check keep the name."""
    asked: list[str | None] = []
    context = tls_for(authority, NAME)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with answering(tls=context) as endpoint:
        client = make_client(NAMED, ca_file=ca_file, lookup=to_loopback)
        outcome = await client.send(post(endpoint.url(host=NAME)))
    assert (outcome.status, asked) == (200, [NAME])
    assert endpoint.requests[0].header("host") == f"{NAME}:{endpoint.port}"


async def test_localhost_over_tls(authority: trustme.CA, ca_file: Path, make_client: MakeClient) -> None:
    """`https://localhost:PORT` works where the loopback is allowed, with a certificate of the named authority."""
    async with answering(tls=tls_for(authority, "localhost")) as endpoint:
        outcome = await make_client(ca_file=ca_file).send(post(endpoint.url(host="localhost"), https_only=True))
    assert outcome.status == 200


async def test_extra_authority_adds_to_the_usual(ca_file: Path) -> None:
    """An extra authority does not replace the usual ones, and verification stays on."""
    usual, more = tls_context(), tls_context(ca_file)
    assert more.cert_store_stats()["x509_ca"] == usual.cert_store_stats()["x509_ca"] + 1
    assert more.check_hostname


async def test_environment_cannot_add_authorities(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates named in the environment are not trusted."""
    before = tls_context().cert_store_stats()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert tls_context().cert_store_stats() == before


async def test_unreadable_authority_stops_the_start(tmp_path: Path) -> None:
    """A CA file that is missing or holds no certificate is a settings error that names it."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(SettingsError, match=path.name):
            tls_context(path)


@pytest.mark.egress
async def test_denied_address_is_never_connected_to(make_client: MakeClient) -> None:
    """A literal and a name that lead to a denied address are blocked; who listens there is never hit."""
    async with canary() as bird:
        client = make_client(EgressPolicy(https_required=False, ports=frozenset({bird.port})), lookup=to_loopback)
        outcomes = [await client.send(post(bird.url(host=host))) for host in ("127.0.0.1", NAME)]
    assert [(o.failure, o.status, o.duration_ms) for o in outcomes] == [(Verdict.BLOCKED, None, 0)] * 2


@pytest.mark.egress
async def test_guard_has_the_last_word_at_the_socket(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that the URL's rules and the resolver have let through is judged again just before the connect."""
    monkeypatch.setattr("pipeline.http.names.judge_address", lambda *_args, **_options: True)
    async with canary() as bird:
        policy = EgressPolicy(https_required=False, ports=frozenset({bird.port}))
        outcome = await make_client(policy, lookup=to_loopback).send(post(bird.url(host=NAME)))
    assert outcome.failure is Verdict.BLOCKED


@pytest.mark.egress
async def test_name_bound_to_allowed_networks_leads_nowhere_else(make_client: MakeClient) -> None:
    """A name that only an allowed network may excuse is blocked when it leads to a public address."""

    async def public(_host: str) -> Sequence[str]:
        return ["8.8.8.8"]

    outcome = await make_client(NAMED, lookup=public).send(post("http://erp.corp.internal:9443/"))
    assert outcome.failure is Verdict.BLOCKED


@pytest.mark.egress
async def test_product_rule_is_checked_when_sent(make_client: MakeClient) -> None:
    """An http URL of a product that requires https is blocked when it is sent to, in an allowed network too."""
    async with canary() as bird:
        outcome = await make_client().send(post(bird.url(), https_only=True))
    assert outcome.failure is Verdict.BLOCKED


async def test_cookies_are_not_kept(client: DeliveryClient) -> None:
    """A cookie that an endpoint sets is never sent back."""
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as endpoint:
        for _ in range(2):
            await client.send(post(endpoint.url()))
    assert [request.header("cookie") for request in endpoint.requests] == [None, None]


async def test_kept_answer_is_limited(client: DeliveryClient) -> None:
    """Of an answer at most 50 headers, 8 KiB of them, and 16 KiB of the body are kept."""
    many = b"".join(b"X-%d: v\r\n" % i for i in range(80))
    wide = b"".join(b"X-%d: %b\r\n" % (i, b"v" * 3000) for i in range(4))
    for headers, kept in ((many, 50), (wide, 2)):
        answer = b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 40000\r\n\r\n" + b"b" * 40_000
        async with answering(answer) as endpoint:
            outcomes = [await client.send(post(endpoint.url())) for _ in range(2)]
        assert [(len(o.headers), o.body) for o in outcomes] == [(kept, b"b" * 16_384)] * 2
        assert endpoint.connections == 1


async def test_headers_of_any_bytes(client: DeliveryClient) -> None:
    """A header value that is no UTF-8 is kept readable."""
    async with answering(b"HTTP/1.1 200 OK\r\nX-A: \xff\xc3\xa4\r\nContent-Length: 0\r\n\r\n") as endpoint:
        outcome = await client.send(post(endpoint.url()))
    assert outcome.headers[0] == ("X-A", "\ufffdä")
    assert json.dumps(outcome.headers)


async def test_redirect_is_an_answer_where_none_is_followed(client: DeliveryClient) -> None:
    """Where the product follows no redirects, a 302 is an answer like others."""
    async with canary() as bird, answering(redirect(302, bird.url())) as endpoint:
        outcome = await client.send(post(endpoint.url()))
    assert (outcome.failure, outcome.status) == (None, 302)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_repeats_the_post(status: int, client: DeliveryClient) -> None:
    """A followed redirect repeats the same POST with the same body and headers at the new place."""

    def answer(request: Received) -> bytes:
        return OK if "/there" in request.line else redirect(status, "/there#part")

    async with answering(answer) as endpoint:
        outcome = await client.send(post(endpoint.url(), max_redirects=5, headers=HEADERS + SECRETS))
    first, second = endpoint.requests
    assert outcome.status == 200
    assert second.line == "POST /there HTTP/1.1"
    assert (second.headers, second.body) == (first.headers, first.body)


@pytest.mark.parametrize("status", [300, 303, 304])
async def test_other_3xx_are_not_followed(status: int, client: DeliveryClient) -> None:
    """A 303, which would turn the POST into a GET, and other 3xx answers are answers."""
    async with answering(redirect(status, "/there")) as endpoint:
        outcome = await client.send(post(endpoint.url(), max_redirects=5))
    assert (outcome.failure, outcome.status, len(endpoint.requests)) == (None, status, 1)


async def test_credentials_stay_with_the_first_origin(client: DeliveryClient) -> None:
    """Authorization, a product's secret and a customer's headers do not go to another origin.

    The signed message does.
    """
    async with answering() as there, answering(redirect(307, there.url())) as here:
        outcome = await client.send(post(here.url(), max_redirects=5, headers=HEADERS + SECRETS))
    request = there.requests[0]
    assert outcome.status == 200
    assert [request.header(name) for name, _ in SECRETS] == [None, None, None]
    assert [request.header(name) for name, _ in HEADERS] == [value for _, value in HEADERS]


def _counting_down(request: Received) -> bytes:
    """Redirects `/5` to `/4` and so on, and answers `/0`."""
    left = int(request.line.split()[1].removeprefix("/"))
    return redirect(308, f"/{left - 1}") if left else OK


@pytest.mark.parametrize(("hops", "failure"), [(5, None), (6, Verdict.REDIRECT)])
async def test_redirects_are_counted(hops: int, failure: Verdict | None, client: DeliveryClient) -> None:
    """At most the given number of redirects is followed, counted from 1."""
    async with answering(_counting_down) as endpoint:
        outcome = await client.send(post(endpoint.url(f"/{hops}"), max_redirects=5))
    assert outcome.failure is failure
    assert len(endpoint.requests) == 6


@pytest.mark.parametrize("location", ["http://[::1", "/a b", "http://exa mple.com/"])
async def test_unreadable_location(location: str, client: DeliveryClient) -> None:
    """A redirect to what is no URL is verdict `redirect`."""
    async with answering(redirect(302, location)) as endpoint:
        outcome = await client.send(post(endpoint.url(), max_redirects=5))
    assert (outcome.failure, outcome.status) == (Verdict.REDIRECT, 302)


async def test_redirect_without_location(client: DeliveryClient) -> None:
    """A 302 that names no place is an answer."""
    async with answering(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n") as endpoint:
        outcome = await client.send(post(endpoint.url(), max_redirects=5))
    assert (outcome.failure, outcome.status) == (None, 302)


@pytest.mark.egress
async def test_no_redirect_to_http(authority: trustme.CA, ca_file: Path, make_client: MakeClient) -> None:
    """Where the product requires https, a redirect to http is blocked before the place is asked."""
    async with canary() as bird, answering(redirect(307, bird.url()), tls=tls_for(authority, "localhost")) as endpoint:
        client = make_client(ca_file=ca_file)
        request = post(endpoint.url(host="localhost"), max_redirects=5, https_only=True)
        outcome = await client.send(request)
    assert (outcome.failure, len(endpoint.requests)) == (Verdict.BLOCKED, 1)


async def test_deadline_covers_all_redirects(client: DeliveryClient) -> None:
    """The deadline holds for all hops together, not for each."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for hop in range(5):
            await read_request(reader)
            await asyncio.sleep(0.2)
            writer.write(redirect(307, f"/{hop}"))

    async with listening(script) as endpoint:
        outcome = await client.send(post(endpoint.url(), deadline_s=0.5, max_redirects=5))
    assert outcome.failure is Verdict.TIMEOUT
    assert outcome.duration_ms < 1000


async def test_cancelled_request_leaves_nothing_open(client: DeliveryClient) -> None:
    """A request that its caller cancels closes its connection and is not turned into an outcome."""
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()
        closed.set()

    async with listening(script) as endpoint:
        task = asyncio.create_task(client.send(post(endpoint.url())))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 2)


async def test_failed_look_up_is_not_remembered(make_client: MakeClient) -> None:
    """A name that failed once is asked for again."""
    answers: list[list[str]] = [[], ["127.0.0.1"]]

    async def lookup(_host: str) -> Sequence[str]:
        if not (found := answers.pop(0)):
            raise NotResolved("none")
        return found

    async with answering() as endpoint:
        client = make_client(NAMED, lookup=lookup)
        outcomes = [await client.send(post(_named(endpoint))) for _ in range(2)]
    assert [(o.failure, o.status) for o in outcomes] == [(Verdict.DNS, None), (None, 200)]


def _named(endpoint: Endpoint) -> str:
    return endpoint.url(host=NAME)
