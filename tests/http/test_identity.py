"""Client certificates in real handshakes."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme

from pipeline.errors import PipelineError
from pipeline.flow.deliver import Verdict
from pipeline.http import identity
from pipeline.http.client import DeliveryClient
from pipeline.http.identity import Identities, load_certificate, plain_context
from tests.http.conftest import LOOPBACK, MakeClient
from tests.http.endpoints import Received, post, redirect, tls_for
from tests.http.mutual import asking, asking_tls, client_certificate, refusing
from tests.http.test_proxy import NAME, policy_for, proxy_to, public

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    """The authority of the clients."""
    return trustme.CA()


@pytest.fixture
async def client(make_client: MakeClient, ca_file: Path, tmp_path: Path) -> DeliveryClient:
    return make_client(LOOPBACK, ca_file=ca_file, data_dir=tmp_path)


async def test_an_endpoint_that_asks_sees_the_certificate(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """An endpoint that takes nobody without a certificate gets the webhook's, and the delivery."""
    async with asking(asking_tls(authority, clients, ssl.CERT_REQUIRED)) as there:
        url = there.endpoint.url(host="localhost")
        outcome = await client.send(post(url, client_certificate=client_certificate(clients, "acme")))
    assert (outcome.failure, outcome.status, there.shown) == (None, 200, ["acme"])


async def test_webhooks_of_one_host_never_share_a_connection(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """Webhooks at the same host and port with different certificates, or with none, are never taken for each other.

    Each keeps using its own connection.
    """
    certificates = {name: client_certificate(clients, name) for name in ("acme", "other")}
    names = ["acme", "other", None] * 4
    async with asking(asking_tls(authority, clients)) as there:
        url = there.endpoint.url(host="localhost")
        for name in names:
            await client.send(post(url, client_certificate=certificates[name] if name else None))
    assert there.shown == names
    assert there.endpoint.connections == 3


async def test_webhooks_of_one_host_at_the_same_time(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """Many requests at once at one host: each is of its own webhook's certificate."""
    certificates = [client_certificate(clients, f"c{number}") for number in range(5)]

    def answer(request: Received) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body)

    async with asking(asking_tls(authority, clients), answer) as there:
        url = there.endpoint.url(host="localhost")
        bodies = [b"c%d" % (number % 5) for number in range(50)]
        sending = [
            client.send(post(url, body=body, client_certificate=certificates[int(body[1:])], deadline_s=20))
            for body in bodies
        ]
        outcomes = await asyncio.gather(*sending)
    assert [outcome.body for outcome in outcomes] == bodies
    assert sorted(name or "" for name in there.shown) == sorted(body.decode() for body in bodies)


async def test_an_endpoint_that_does_not_ask_is_shown_none(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """Where nobody asks for it the certificate stays here, and the delivery arrives."""
    async with asking(tls_for(authority, "localhost")) as there:
        url = there.endpoint.url(host="localhost")
        outcome = await client.send(post(url, client_certificate=client_certificate(clients, "acme")))
    assert (outcome.status, there.shown) == (200, [None])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("which", ["none", "unknown authority", "expired"])
async def test_a_refused_certificate_is_verdict_tls(
    version: ssl.TLSVersion, which: str, authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """An endpoint that refuses the certificate, or misses one, is verdict `tls`: with TLS 1.3 after our handshake."""
    certificate = {
        "none": None,
        "unknown authority": client_certificate(trustme.CA(), "acme"),
        "expired": client_certificate(clients, "acme", not_before=LONG_AGO, not_after=LONG_AGO),
    }[which]
    tls = asking_tls(authority, clients, ssl.CERT_REQUIRED)
    tls.minimum_version = tls.maximum_version = version
    with refusing(tls) as port:
        outcome = await client.send(post(f"https://localhost:{port}/", client_certificate=certificate))
    assert (outcome.failure, outcome.status) == (Verdict.TLS, None)


@pytest.mark.egress
async def test_another_origin_is_never_shown_the_certificate(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """A redirect to another origin that asks for a certificate gets none; one within the first origin gets it."""
    certificate = client_certificate(clients, "acme")
    tls = asking_tls(authority, clients)
    async with asking(tls) as there:
        foreign = there.endpoint.url(host="localhost")

        def answer(request: Received) -> bytes:
            return redirect(307, foreign if "/second" in request.line else "/second")

        async with asking(tls, answer) as here:
            url = here.endpoint.url(host="localhost")
            outcome = await client.send(post(url, max_redirects=5, client_certificate=certificate))
    assert (outcome.status, here.shown, there.shown) == (200, ["acme", "acme"], [None])


@pytest.mark.egress
async def test_a_redirect_home_shows_it_again(
    authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """A foreign place that sends the request back to the first origin learns nothing, and home is home."""
    certificate = client_certificate(clients, "acme")
    tls = asking_tls(authority, clients)
    ways: dict[str, str] = {}

    def answer(request: Received) -> bytes:
        path = request.line.split()[1]
        return redirect(307, ways[path]) if path in ways else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async with asking(tls, answer) as here, asking(tls, answer) as there:
        ways |= {"/out": there.endpoint.url("/back", "localhost"), "/back": here.endpoint.url("/home", "localhost")}
        url = here.endpoint.url("/out", "localhost")
        outcome = await client.send(post(url, max_redirects=5, client_certificate=certificate))
    assert (outcome.status, here.shown, there.shown) == (200, ["acme", "acme"], [None])


@pytest.mark.egress
async def test_through_a_proxy_the_endpoint_alone_sees_it(
    authority: trustme.CA, clients: trustme.CA, ca_file: Path, make_client: MakeClient, tmp_path: Path
) -> None:
    """With an egress proxy the handshake, and so the certificate, is inside the tunnel."""
    tls = asking_tls(authority, clients, ssl.CERT_REQUIRED, NAME)
    async with asking(tls) as there, proxy_to(there.endpoint.port) as proxy:
        policy, reach = policy_for(there.endpoint), {"proxy": proxy.url(""), "lookup": public}
        client = make_client(policy, ca_file=ca_file, data_dir=tmp_path, **reach)
        url = there.endpoint.url(host=NAME)
        outcome = await client.send(post(url, client_certificate=client_certificate(clients, "acme")))
    assert (outcome.status, there.shown, len(proxy.requests)) == (200, ["acme"], 1)


@pytest.mark.parametrize("odd", ["  Ünï\u00a0 &  Größe   GmbH ", "O" * 64, "a\tB  c"])
async def test_any_authority_is_found(odd: str, clients: trustme.CA, make_client: MakeClient, tmp_path: Path) -> None:
    """The endpoint is verified by the deployment's extra authority, whatever that one is called."""
    odd_one = trustme.CA(organization_name=odd, organization_unit_name=odd)
    odd_one.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = make_client(LOOPBACK, ca_file=tmp_path / "ca.pem", data_dir=tmp_path)
    async with asking(asking_tls(odd_one, clients)) as there:
        url = there.endpoint.url(host="localhost")
        outcome = await client.send(post(url, client_certificate=client_certificate(clients, "acme")))
    assert (outcome.failure, there.shown) == (None, ["acme"])


@pytest.mark.parametrize("fault", ["unknown authority", "another host", "expired"])
async def test_the_endpoint_is_verified_all_the_same(
    fault: str, authority: trustme.CA, clients: trustme.CA, client: DeliveryClient
) -> None:
    """A webhook with a certificate is as strict about the endpoint's own; whoever fails sees nothing of ours."""
    tls = asking_tls(
        trustme.CA() if fault == "unknown authority" else authority,
        clients,
        name="elsewhere.example" if fault == "another host" else "localhost",
    )
    if fault == "expired":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO).configure_cert(tls)
    async with asking(tls) as there:
        url = there.endpoint.url(host="localhost")
        outcome = await client.send(post(url, client_certificate=client_certificate(clients, "acme")))
    assert (outcome.failure, there.shown) == (Verdict.TLS, [])


def test_certificates_kept_ready_are_bounded(
    clients: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used certificate makes room, and is made ready again when it is needed."""
    monkeypatch.setattr(identity, "READY", 2)
    identities = Identities(tmp_path)
    first, second, third = (client_certificate(clients, name) for name in "abc")
    kept = identities.context(first)
    assert identities.context(first) is kept
    identities.context(second)
    identities.context(third)
    assert identities.context(first) is not kept


def test_no_file_holds_a_key(clients: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While OpenSSL reads a key and afterwards, no folder has a file with it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []

    class Watched(ssl.SSLContext):
        def load_cert_chain(self, *args: object, **more: object) -> None:
            seen.append(list(tmp_path.iterdir()))
            super().load_cert_chain(*args, **more)  # type: ignore[arg-type]

    load_certificate(Watched(ssl.PROTOCOL_TLS_CLIENT), client_certificate(clients, "acme"))
    assert seen == [[]]
    assert list(tmp_path.iterdir()) == []


async def test_a_fault_of_ours_is_no_verdict(
    clients: trustme.CA, client: DeliveryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no temporary file can be written, that is raised: it must not count against the endpoint."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(PipelineError, match="cannot be written"):
        await client.send(post("https://127.0.0.1/", client_certificate=client_certificate(clients, "acme")))


async def test_a_certificate_that_openssl_cannot_use_is_verdict_tls(
    clients: trustme.CA, client: DeliveryClient
) -> None:
    """A key that is not the certificate's keeps its own webhook from being sent to, and nobody else."""
    one, other = (client_certificate(clients, name) for name in "ab")
    mixed = type(one)(one.certificate, other.private_key)
    with pytest.raises(ssl.SSLError):
        load_certificate(plain_context(), mixed)
    outcome = await client.send(post("https://127.0.0.1/", client_certificate=mixed))
    assert outcome.failure is Verdict.TLS


def test_a_certificate_does_not_show_itself(clients: trustme.CA) -> None:
    """A request that is printed tells nothing of its certificate's key."""
    certificate = client_certificate(clients, "acme")
    assert "PRIVATE KEY" not in repr(post("https://127.0.0.1/", client_certificate=certificate))
