"""Client certificates: written through the API, kept sealed, shown in the handshake."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pipeline.api import certificates
from pipeline.api.app import create_app
from pipeline.flow.deliver import ClientCertificate, Delivery, Origin
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.topics import SUBSCRIPTIONS
from pipeline.store.targets import ViewTargets
from tests.api.conftest import URL, Api, faults
from tests.api.parts import NOW_MS, Parts, memory_parts
from tests.http.mutual import asking, asking_tls, client_certificate
from tests.prepared import ADMIN_KEY

WEBHOOK = {"url": URL, "events": ["invoice.*"]}
NOW = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
SECOND = dt.timedelta(seconds=1)
DELIVERY = Delivery("msg_1", "acme", "wh_1", "e1", "a.b", None, 0, b"{}", 1, Origin("events", 0, 0, 0))
CERTIFICATE, KEY = "/client_certificate/certificate", "/client_certificate/private_key"


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    """The authority of the clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def acme(clients: trustme.CA) -> ClientCertificate:
    return client_certificate(clients, "acme", not_after=NOW + dt.timedelta(days=30))


def form(held: ClientCertificate, **more: str | None) -> dict[str, Any]:
    """As it is written to the API."""
    pair = {"certificate": held.certificate, "private_key": held.private_key}
    return {"client_certificate": {**pair, **more}}


def generation(parts: Parts, webhook: str) -> int:
    return parts.codec.decode_subscription(parts.view.get(SUBSCRIPTIONS, f"acme/{webhook}")).generation


def used(parts: Parts, webhook: str) -> ClientCertificate | None:
    """What the sender would show."""
    target = ViewTargets(parts.view, parts.codec, parts.vault).find("acme", webhook)
    assert target is not None
    return target.prepared.request(DELIVERY, 1).client_certificate


async def test_a_certificate_is_shown_without_its_key(
    api: Api, parts: Parts, acme: ClientCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose it is, until when, its fingerprint; the key is in no answer, no log, no record, and with the sender."""
    caplog.set_level("DEBUG")
    webhooks = await api.tenant()
    made = await api.post(webhooks, {**WEBHOOK, **form(acme)})
    der = ssl.PEM_cert_to_DER_cert(acme.certificate)
    expected = {
        "subject": made["client_certificate"]["subject"],
        "not_after": "2026-01-31T00:00:00.000Z",
        "fingerprint_sha256": hashlib.sha256(der).hexdigest(),
    }
    assert made["client_certificate"] == expected
    assert "CN=acme" in expected["subject"]
    assert (await api.get(f"{webhooks}/{made['id']}"))["client_certificate"] == expected
    record = parts.view.get(SUBSCRIPTIONS, f"acme/{made['id']}") or b""
    secret = acme.private_key.splitlines()[1]
    listed = await api.get(webhooks)
    assert all(secret not in text for text in (str(made), str(listed), caplog.text, record.decode("latin-1")))
    assert used(parts, made["id"]) == acme


async def test_a_webhook_without_one_shows_null(api: Api, parts: Parts) -> None:
    """A client certificate is the customer's choice."""
    webhooks = await api.tenant()
    made = await api.post(webhooks, WEBHOOK)
    assert made["client_certificate"] is None
    assert used(parts, made["id"]) is None


async def test_what_is_not_given_stays_and_null_takes_it_away(api: Api, parts: Parts, acme: ClientCertificate) -> None:
    """An edit of something else leaves the certificate, and its generation; each change of it begins another."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, **form(acme)}))["id"]
    path = f"{webhooks}/{webhook}"
    await api.patch(path, {"name": "Billing"})
    assert (used(parts, webhook), generation(parts, webhook)) == (acme, 1)
    assert (await api.patch(path, form(acme)))["version"] == 2
    assert (await api.patch(path, {"client_certificate": {}}))["version"] == 2
    assert (await api.patch(path, {"client_certificate": None}))["client_certificate"] is None
    assert (used(parts, webhook), generation(parts, webhook)) == (None, 2)
    await api.patch(path, form(acme))
    assert (used(parts, webhook), generation(parts, webhook)) == (acme, 3)


async def test_a_certificate_is_renewed_for_the_same_key(
    api: Api, parts: Parts, clients: trustme.CA, acme: ClientCertificate
) -> None:
    """A part that is not given stays too: a renewed certificate needs no key, unless it is of another one."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, **form(acme)}))["id"]
    renewed = acme.certificate + clients.cert_pem.bytes().decode()
    await api.patch(f"{webhooks}/{webhook}", {"client_certificate": {"certificate": renewed}})
    assert used(parts, webhook) == ClientCertificate(renewed, acme.private_key)
    other = client_certificate(clients, "other").certificate
    problem = await api.patch(f"{webhooks}/{webhook}", {"client_certificate": {"certificate": other}}, 422)
    assert faults(problem) == {KEY: "mismatch"}


def _key(pem: str, encryption: Any = None, kind: PrivateFormat = PrivateFormat.PKCS8) -> str:
    held = load_pem_private_key(pem.encode(), None)
    return held.private_bytes(Encoding.PEM, kind, encryption or NoEncryption()).decode()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"certificate": None}, {CERTIFICATE: "required"}),
        ({"private_key": ""}, {KEY: "required"}),
        ({"certificate": "no PEM"}, {CERTIFICATE: "pem"}),
        ({"private_key": "no PEM"}, {KEY: "pem"}),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, {CERTIFICATE: "pem"}),
        ({"certificate": "x", "private_key": "y"}, {CERTIFICATE: "pem", KEY: "pem"}),
        ({"certificate": "x" * 16_385}, {CERTIFICATE: "string_too_long"}),
        ({"private_key": "x" * 16_385}, {KEY: "string_too_long"}),
        ({"password": "x"}, {"/client_certificate/password": "unknown"}),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_refused(
    api: Api, acme: ClientCertificate, change: dict[str, str | None], expected: dict[str, str]
) -> None:
    """What can never be shown to an endpoint is refused when it is written, with field and rule."""
    webhooks = await api.tenant()
    assert faults(await api.post(webhooks, {**WEBHOOK, **form(acme, **change)}, 422)) == expected
    assert (await api.get(webhooks))["items"] == []


@pytest.mark.parametrize("kind", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
async def test_an_encrypted_key_is_refused(api: Api, acme: ClientCertificate, kind: PrivateFormat) -> None:
    """A key that only its password opens is of no use to the sender; either way to write one is told by its name."""
    closed = _key(acme.private_key, BestAvailableEncryption(b"password"), kind)
    problem = await api.post(await api.tenant(), {**WEBHOOK, **form(acme, private_key=closed)}, 422)
    assert faults(problem) == {KEY: "encrypted"}


async def test_an_expired_certificate_is_refused(api: Api, clients: trustme.CA) -> None:
    """A certificate whose time is over when it is written is refused."""
    old = client_certificate(clients, "acme", not_before=NOW - dt.timedelta(days=9), not_after=NOW - SECOND)
    assert faults(await api.post(await api.tenant(), {**WEBHOOK, **form(old)}, 422)) == {CERTIFICATE: "expired"}


async def test_a_certificate_that_expires_later_holds_up_no_edit(
    api: Api, parts: Parts, acme: ClientCertificate
) -> None:
    """When its time is over a webhook can still be edited, and the certificate be taken away or replaced."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, **form(acme)}))["id"]
    parts.clock[0] += 31 * 86_400_000
    assert (await api.patch(f"{webhooks}/{webhook}", {"name": "Billing"}))["name"] == "Billing"
    assert used(parts, webhook) == acme


async def test_a_mismatch_and_what_else_is_wrong_are_told_together(
    api: Api, clients: trustme.CA, acme: ClientCertificate
) -> None:
    """All that is wrong with a webhook is told at once."""
    other = client_certificate(clients, "other").private_key
    body = {"url": "https://localhost/", "events": ["*"], **form(acme, private_key=other)}
    problem = await api.post(await api.tenant(), body, 422)
    assert faults(problem) == {"/url": "host", KEY: "mismatch"}


async def test_only_https_shows_a_certificate(acme: ClientCertificate) -> None:
    """A webhook at an http:// URL can have none, whichever of the two is written first."""
    async with _served(memory_parts(policy=EgressPolicy.parse("127.0.0.0/8"))) as api:
        webhooks = await api.tenant()
        plain = {"url": "http://127.0.0.1:8123/", "events": ["*"]}
        assert faults(await api.post(webhooks, {**plain, **form(acme)}, 422)) == {"/client_certificate": "https"}
        made = await api.post(webhooks, {**WEBHOOK, **form(acme)})
        problem = await api.patch(f"{webhooks}/{made['id']}", {"url": plain["url"]}, 422)
        assert faults(problem) == {"/client_certificate": "https"}
        await api.patch(f"{webhooks}/{made['id']}", {"url": plain["url"], "client_certificate": None})


async def test_a_long_rsa_key_is_refused(clients: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that would hold up a sender with each handshake is refused, at its exact limit."""
    leaf = client_certificate(clients, "acme", key_type=trustme.KeyType.RSA)
    monkeypatch.setattr(certificates, "MAX_RSA_BITS", 2048)
    assert certificates.refusals(leaf, NOW_MS) == []
    monkeypatch.setattr(certificates, "MAX_RSA_BITS", 2047)
    assert [(one.field, one.rule) for one in certificates.refusals(leaf, NOW_MS)] == [(CERTIFICATE, "key_size")]


async def test_a_key_too_short_for_tls_is_refused(clients: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TLS of the sender has the last word about what it can use."""
    make = rsa.generate_private_key
    monkeypatch.setattr(rsa, "generate_private_key", lambda **more: make(**{**more, "key_size": 1024}))
    leaf = client_certificate(clients, "acme", key_type=trustme.KeyType.RSA)
    assert [(one.field, one.rule) for one in certificates.refusals(leaf, NOW_MS)] == [(CERTIFICATE, "unusable")]


async def test_from_the_api_to_the_handshake(clients: trustme.CA, tmp_path: Path) -> None:
    """Two webhooks of one host, made through the API, are each known by their own certificate where they arrive."""
    policy, authority = EgressPolicy.parse("127.0.0.0/8"), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = DeliveryClient(policy, ca_file=tmp_path / "ca.pem", data_dir=tmp_path)
    parts = memory_parts(policy=policy)
    async with aclosing(client), _served(parts) as api:
        webhooks = await api.tenant()
        async with asking(asking_tls(authority, clients, ssl.CERT_REQUIRED)) as there:
            body = {"url": there.endpoint.url(host="localhost"), "events": ["*"]}
            made = [
                await api.post(webhooks, {**body, **form(client_certificate(clients, name))})
                for name in ("one", "other")
            ]
            targets = ViewTargets(parts.view, parts.codec, parts.vault)
            found = [targets.find("acme", webhook["id"]) for webhook in made]
            for target in found * 2:
                assert target is not None
                outcome = await client.send(target.prepared.request(DELIVERY, 1))
                assert (outcome.failure, outcome.status) == (None, 200)
    assert there.shown == ["one", "other"] * 2


@asynccontextmanager
async def _served(parts: Parts) -> AsyncIterator[Api]:
    transport = httpx.ASGITransport(create_app(parts.deps))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield Api(client)
