"""Bearer tokens and a customer's own headers: from the API to the endpoint, and told nowhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from structlog.testing import capture_logs

from pipeline.api.app import create_app
from pipeline.cli._logs import log_attempt
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from pipeline.profiles import PROFILES
from pipeline.store.targets import ViewTargets
from tests.api.conftest import Api, faults
from tests.api.parts import Parts, memory_parts
from tests.api.test_webhooks import BODIES, TENANTS
from tests.http.endpoints import redirect
from tests.http.mutual import asking, asking_tls, client_certificate
from tests.prepared import ADMIN_KEY
from tests.workers.parts import DELIVERY, Sending, answer, delivered, sending

BEARER, TOKEN = "Bearer canary-81d2", "canary-f00d"  # a customer's secrets
HEADERS = {"Authorization": BEARER, "X-Token": TOKEN}


@dataclass
class World:
    """The API, and a sender that sends to what was made there, each delivery for the last time."""

    api: Api
    parts: Parts
    client: DeliveryClient
    authority: trustme.CA

    async def deliver(self, webhook: str) -> Sending:
        """One delivery to the webhook."""
        flow = sending(answer(200), profile=PROFILES["monitorqa"])
        targets = ViewTargets(self.parts.view, self.parts.codec, self.parts.vault)
        flow.sender = replace(flow.sender, client=self.client, targets=targets, on_attempt=log_attempt)
        await flow(delivered(replace(DELIVERY, webhook=webhook, attempt=20)))
        return flow


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    policy, authority = EgressPolicy.parse("127.0.0.0/8"), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    parts = memory_parts(policy=policy)
    transport, headers = httpx.ASGITransport(create_app(parts.deps)), {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        aclosing(DeliveryClient(policy, ca_file=tmp_path / "ca.pem", data_dir=tmp_path)) as client,
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as asked,
    ):
        yield World(Api(asked), parts, client, authority)


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_product_takes_a_bearer_token_and_own_headers(api: Api, profile: str) -> None:
    """`Authorization: Bearer …` and other headers may be set for each webhook, and are masked in every answer."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    made = await api.post(webhooks, {**BODIES[profile], "headers": HEADERS})
    path = f"{webhooks}/{made['id']}"
    listed = (await api.get(webhooks))["items"][0]
    for shown in (made, listed, await api.get(path), await api.patch(path, {"name": "n"})):
        assert shown["headers"] == {"Authorization": "***", "X-Token": "***"}
        assert "canary" not in str(shown)


async def test_a_products_own_authorization_is_not_replaced(api: Api) -> None:
    """Where the product itself fills in `Authorization`, a customer's is refused; without Basic it is free."""
    webhooks = await api.tenant("inspectorio")
    basic = {"auth": {"type": "basic", "username": "u", "password": "p"}}
    refused = await api.post(webhooks, {**BODIES["inspectorio"], **basic, "headers": HEADERS}, 422)
    assert faults(refused) == {"/headers/Authorization": "header"}
    assert "canary" not in str(refused)
    made = await api.post(webhooks, {**BODIES["inspectorio"], "headers": HEADERS})
    assert faults(await api.patch(f"{webhooks}/{made['id']}", basic, 422)) == {"/headers/Authorization": "header"}


async def test_they_arrive_and_are_told_nowhere(world: World) -> None:
    """The endpoint gets token, header and certificate; attempt, dead letter and log hold nothing of any of them."""
    clients, got = trustme.CA(), list[dict[str, str]]()

    def refuse(request: Any) -> bytes:
        got.append({name.lower(): value for name, value in request.headers})
        return b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n"

    certificate = client_certificate(clients, "acme")
    pair = {"certificate": certificate.certificate, "private_key": certificate.private_key}
    webhooks = await world.api.tenant()
    async with asking(asking_tls(world.authority, clients, ssl.CERT_REQUIRED), refuse) as there:
        body = {"url": there.endpoint.url(host="localhost"), "events": ["*"], "headers": HEADERS}
        made = await world.api.post(webhooks, {**body, "client_certificate": pair})
        with capture_logs() as logs:
            flow = await world.deliver(made["id"])
    assert (got[0]["authorization"], got[0]["x-token"], there.shown) == (BEARER, TOKEN, ["acme"])
    assert [record.topic for record in flow.publisher.written] == ["attempts", "retry-dlq"]
    written = b"".join(record.value or b"" for record in flow.publisher.written)
    assert (len(logs), logs[0]["status"]) == (1, 500)
    for secret in (BEARER, TOKEN, "canary", *certificate.private_key.splitlines()[:2]):
        assert secret.encode() not in written
        assert secret not in str(logs)
    kept = {name.lower(): value for name, value in flow.publisher.attempts[0].request_headers}
    assert (kept["authorization"], kept["x-token"]) == ("***", "***")


@pytest.mark.egress
async def test_a_foreign_place_gets_none_of_them(world: World) -> None:
    """A product that follows redirects takes neither token nor header nor certificate to another origin."""
    clients, got = trustme.CA(), list[set[str]]()
    tls = asking_tls(world.authority, clients)
    certificate = client_certificate(clients, "acme")
    pair = {"certificate": certificate.certificate, "private_key": certificate.private_key}
    webhooks = await world.api.tenant("bugbounty", **TENANTS["bugbounty"])

    def accept(request: Any) -> bytes:
        got.append({name.lower() for name, _ in request.headers})
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async with asking(tls, accept) as there, asking(tls, redirect(307, there.endpoint.url(host="localhost"))) as here:
        url = here.endpoint.url(host="localhost")
        body = {**BODIES["bugbounty"], "url": url, "headers": HEADERS, "client_certificate": pair}
        made = await world.api.post(webhooks, body)
        flow = await world.deliver(made["id"])
    assert [attempt.verdict for attempt in flow.publisher.attempts] == ["delivered"]
    assert (here.shown, there.shown) == (["acme"], [None])
    assert not got[0] & {"authorization", "x-token"}
    assert "webhook-signature" in got[0]
