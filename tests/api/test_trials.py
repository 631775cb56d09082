"""The test of a webhook's configuration over REST, against real endpoints."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from pipeline.api import trials as module
from pipeline.api.trying import Trials
from pipeline.flow.health import EndpointState
from pipeline.flow.trials import WebhookTest
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.topics import ENDPOINT_STATE, WEBHOOK_TESTS
from pipeline.profiles import PROFILES, examples
from tests.api.conftest import Api, faults
from tests.api.parts import NOW_MS, Parts, memory_parts
from tests.api.test_trying import Pauses
from tests.api.test_webhooks import BODIES, TENANTS
from tests.http.endpoints import OK, Endpoint, Received, answering, listening, read_request, redirect, tls_for
from tests.http.mutual import asking, asking_tls, client_certificate

LOOPBACK = EgressPolicy.parse("127.0.0.0/8")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OWN = {"standard": {"secret": SECRET}, "bugbounty": {"secret": SECRET}, "monithq": {"secret": "a key of ours"}}
OWN |= {"qase": {"secret": "hush hush"}, "inspectorio": {"username": "qrm", "password": "pässword"}, "monitorqa": {}}

Answering = Callable[..., AbstractAsyncContextManager[Endpoint]]


@dataclass
class World:
    """What the tests need beside the API's parts."""

    client: DeliveryClient
    pauses: Pauses
    answering: Answering
    authority: trustme.CA


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    client = DeliveryClient(LOOPBACK, ca_file=ca_file, data_dir=tmp_path)
    yield World(client, Pauses(), partial(answering, tls=tls_for(authority, "127.0.0.1")), authority)
    await client.aclose()


@pytest.fixture
def parts(world: World) -> Parts:
    return memory_parts(trials=Trials(world.client, lambda: NOW_MS, world.pauses), policy=LOOPBACK)


async def webhook(api: Api, endpoint: Endpoint | str, profile: str = "standard", **more: Any) -> str:
    """The path of a webhook to this endpoint, of a tenant `acme`."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    url = endpoint if isinstance(endpoint, str) else endpoint.url()
    auth = {"auth": OWN[profile]} if OWN[profile] else {}
    made = await api.post(webhooks, {**BODIES[profile], "url": url, **auth, **more})
    return f"{webhooks}/{made['id']}"


async def tried(api: Api, path: str, form: Any = None, status: int = 200) -> Any:
    return await api.post(f"{path}/test", form, status)


async def error(api: Api, path: str) -> Any:
    """The error that shows on the webhook: the same alone and in the list."""
    shown = await api.get(path)
    listed = (await api.get(path.rpartition("/")[0]))["items"]
    assert next(one for one in listed if one["id"] == shown["id"])["state"] == shown["state"]
    return shown["state"]["error"]


def scripted(*statuses: int) -> Callable[[Received], bytes]:
    """Answers with these in turn, the last one for ever."""
    left = list(statuses)
    return lambda _: b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize("profile", PROFILES)
async def test_an_example_is_sent_as_a_delivery_would_be(api: Api, world: World, parts: Parts, profile: str) -> None:
    """The first type that it wants, rendered and authenticated by the product's rules, and marked as a test."""
    product = PROFILES[profile]
    async with world.answering() as endpoint:
        result = await tried(api, await webhook(api, endpoint, profile))
    assert (result["outcome"], result["reason"], result["recorded"]) == ("success", None, True)
    (request,), (attempt,) = endpoint.requests, result["attempts"]
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["webhook-test"] == "true"
    scheme = next(one for one in product.schemes if {*OWN[profile]} == {field.name for field in one.fields})
    assert scheme.verify(headers, request.body, OWN[profile], NOW_MS / 1000) is None
    example = next(one for one in examples(profile) if one.type == result["type"])
    tenant = parts.deps.directory.tenant("acme")
    assert tenant is not None
    said = json.loads(product.body(example.event("acme", "e", NOW_MS), tenant, result["webhook_id"]))
    got = json.loads(request.body)
    assert {**got, "timestamp": None, "messageId": None} == {**said, "timestamp": None, "messageId": None}
    assert (result["body"], result["webhook_id"]) == (request.body.decode(), headers["webhook-id"])
    assert (attempt["verdict"], attempt["status_code"], attempt["started"]) == (
        "delivered",
        200,
        "2026-01-01T00:00:00.000Z",
    )
    assert attempt["response_body"] == "ok"
    secrets = [value for name, value in OWN[profile].items() if name != "username"]
    assert not any(secret in json.dumps(result, ensure_ascii=False) for secret in secrets)


async def test_three_failures_show_until_a_test_succeeds(api: Api, world: World, parts: Parts) -> None:
    """The same request three times, and its error on the webhook, with what to do; a success takes it away."""
    async with world.answering(scripted(404, 404, 404, 200)) as endpoint:
        path = await webhook(api, endpoint)
        result = await tried(api, path)
        assert (result["outcome"], len(result["attempts"]), world.pauses) == ("client_error", 3, [2.0, 4.0])
        assert {(one.body, one.header("webhook-id")) for one in endpoint.requests} == {
            (result["body"].encode(), result["webhook_id"])
        }
        shown = await error(api, path)
        assert (shown["outcome"], shown["advice"]) == ("client_error", result["advice"])
        assert shown["tested_at"].startswith("2026-01-01T00:00:0")
        assert (await tried(api, path))["outcome"] == "success"
        assert await error(api, path) is None
    (first, second) = parts.control.audits[-2:]
    assert (first.action, first.target, first.detail) == ("testWebhook", path.rpartition("/")[2], "client_error")
    assert second.detail == "success"


async def test_a_success_after_failures_shows_no_error(api: Api, world: World) -> None:
    """Two failures and then a success are a success."""
    async with world.answering(scripted(500, 503, 200)) as endpoint:
        path = await webhook(api, endpoint)
        result = await tried(api, path)
    assert [attempt["verdict"] for attempt in result["attempts"]] == ["rejected", "rejected", "delivered"]
    assert (result["outcome"], await error(api, path)) == ("success", None)


async def test_who_sends_is_shown_to_an_endpoint_that_asks(api: Api, world: World) -> None:
    """Mutual TLS is part of the configuration: the client certificate is shown as with a delivery."""
    clients = trustme.CA()
    held = client_certificate(clients, "acme")
    form = {"certificate": held.certificate, "private_key": held.private_key}
    async with asking(asking_tls(world.authority, clients, ssl.CERT_REQUIRED, "127.0.0.1")) as asked:
        path = await webhook(api, asked.endpoint, client_certificate=form)
        assert (await tried(api, path))["outcome"] == "success"
        await api.patch(path, {"client_certificate": None})
        assert (await tried(api, path))["outcome"] in {"tls", "connect"}
    assert asked.shown == ["acme"]


async def test_a_redirect_loop_is_found(api: Api, world: World) -> None:
    """Where redirects are followed, one that leads back is told as a loop."""
    async with world.answering(lambda _: redirect(307, "/hook")) as endpoint:
        path = await webhook(api, endpoint, "bugbounty")
        result = await tried(api, path)
    assert (result["outcome"], result["attempts"][0]["status_code"]) == ("redirect_loop", 307)


async def test_what_is_blocked_is_tried_once_and_shows(api: Api, world: World, parts: Parts, tmp_path: Path) -> None:
    """An address that the guard refuses is told at once as an error: no repeat could change it. Nothing arrives."""
    async with world.answering() as endpoint:
        path = await webhook(api, endpoint)
        guarded = DeliveryClient(EgressPolicy(), data_dir=tmp_path)
        object.__setattr__(parts.deps, "trials", Trials(guarded, lambda: NOW_MS, world.pauses))
        result = await tried(api, path)
        await guarded.aclose()
    assert (result["outcome"], endpoint.connections) == ("blocked", 0)
    assert [(one["status_code"], one["duration_ms"]) for one in result["attempts"]] == [(None, 0)]
    assert (await error(api, path))["outcome"] == "blocked"


@pytest.mark.parametrize(
    ("profile", "wanted", "asked", "sent"),
    [
        ("qase", {"events": ["run.*", "case.deleted"]}, None, "case.deleted"),
        ("monithq", {"events": [], "components": ["Site"]}, None, "site_down"),
        ("monithq", {"events": ["site_up"]}, "incident_created", "incident_created"),
        ("standard", {"events": ["invoice.*"]}, None, "invoice.paid"),
        ("standard", {"events": ["car.sold", "car.*"]}, None, "car.sold"),
        ("standard", {"events": ["car.*"]}, None, "contact.created"),
        ("standard", {"events": ["car.*"]}, "car.sold", "car.sold"),
        ("monitorqa", {}, None, "AUDIT_ASSIGNED"),
    ],
)
async def test_which_example_is_sent(
    api: Api, world: World, *, profile: str, wanted: Any, asked: str | None, sent: str
) -> None:
    """The one that is asked for; else the first, in the catalogue's order, that the webhook wants."""
    async with world.answering() as endpoint:
        path = await webhook(api, endpoint, profile, **wanted)
        result = await tried(api, path, {"type": asked} if asked else None)
    assert (result["outcome"], result["type"]) == ("success", sent)
    assert sent in endpoint.requests[0].body.decode()


async def test_a_projection_is_applied_and_a_filter_is_not_asked(api: Api, world: World) -> None:
    """The example is what an event that the webhook gets would be, though its filter might not let this one through."""
    chosen = {"filter": "data.amount > `1000000`", "projection": "{total: data.amount}"}
    async with world.answering() as endpoint:
        result = await tried(api, await webhook(api, endpoint, **chosen), {"type": "invoice.paid"})
    assert json.loads(result["body"])["data"] == {"total": 149.9}
    assert endpoint.requests[0].body.decode() == result["body"]


async def test_a_type_that_the_product_has_not_is_refused(api: Api, world: World) -> None:
    """422, and nothing is sent."""
    async with world.answering() as endpoint:
        path = await webhook(api, endpoint, "qase")
        refused = await tried(api, path, {"type": "case.burned"}, 422)
    assert faults(refused) == {"/type": "type"}
    assert "no event of Qase" in refused["detail"]
    assert endpoint.requests == []


async def test_who_cannot_be_tested(api: Api, world: World) -> None:
    """404 where there is nothing; 409 with the product's sentence where the tenant's webhooks are suspended."""
    webhooks = await api.tenant("qase", plan="business")
    await tried(api, f"{webhooks}/wh_none", None, 404)
    await tried(api, "/v1/tenants/nobody/webhooks/wh_none", None, 404)
    async with world.answering() as endpoint:
        made = await api.post(webhooks, {**BODIES["qase"], "url": endpoint.url()})
        await api.patch("/v1/tenants/acme", {"plan": "free"})
        refused = await tried(api, f"{webhooks}/{made['id']}", None, 409)
    assert refused["detail"] == "Webhooks are available in Startup, Business, and Enterprise subscriptions."
    assert endpoint.requests == []


async def test_an_inactive_or_disabled_webhook_is_tested(api: Api, world: World, parts: Parts) -> None:
    """That is how one finds out whether it can be switched on again."""
    async with world.answering() as endpoint:
        path = await webhook(api, endpoint)
        held = path.rpartition("/")[2]
        gone = EndpointState("acme", held, 1, disabled=True, reason="gone")
        parts.view.put(ENDPOINT_STATE, gone.path, parts.codec.encode_endpoint_state(gone))
        assert (await api.get(path))["status"] == "disabled"
        assert (await tried(api, path))["outcome"] == "success"
        assert (await api.post(f"{path}/deactivate", status=200))["status"] == "inactive"
        assert (await tried(api, path))["outcome"] == "success"


@pytest.mark.parametrize("way", ["url", "auth", "activate", "delivery"])
async def test_what_else_ends_the_error(api: Api, world: World, parts: Parts, way: str) -> None:
    """Another URL or secret, an activation, or a delivery after which the sender names this very test."""
    async with world.answering(scripted(500)) as endpoint:
        path = await webhook(api, endpoint)
        await tried(api, path)
        test = parts.deps.directory.test(path.replace("/v1/tenants/", "").replace("/webhooks", ""))
        assert test is not None
        _succeeded_after(parts, test, test.time_ms - 1)
        await api.patch(path, {"name": "another name"})
        assert await error(api, path) is not None
        match way:
            case "url":
                await api.patch(path, {"url": endpoint.url("/other")})
            case "auth":
                await api.patch(path, {"auth": {"secret": SECRET[:-4] + "AAAA"}})
            case "activate":
                await api.post(f"{path}/activate", status=200)
            case _:
                _succeeded_after(parts, test, test.time_ms)
        assert await error(api, path) is None
        await tried(api, path)
        assert await error(api, path) is not None


def _succeeded_after(parts: Parts, test: WebhookTest, tested_ms: int) -> None:
    """As a sender tells that a delivery has succeeded after that test."""
    known = EndpointState(test.tenant, test.webhook, test.generation, tested_ms=tested_ms)
    parts.view.put(ENDPOINT_STATE, known.path, parts.codec.encode_endpoint_state(known))


async def test_the_error_goes_with_the_webhook(api: Api, world: World, parts: Parts) -> None:
    """A product's only webhook has the same id when it is made anew, and nothing to do with what was found before."""
    async with world.answering(scripted(500)) as endpoint:
        path = await webhook(api, endpoint, "bugbounty")
        await tried(api, path)
        assert await error(api, path) is not None
        await api.ask("DELETE", path, status=204)
        assert parts.view.records[WEBHOOK_TESTS] == {}
        await api.post(path.rpartition("/")[0], {**BODIES["bugbounty"], "url": endpoint.url()})
        assert await error(api, path) is None
        await tried(api, path)
    await api.ask("DELETE", "/v1/tenants/acme", status=200)
    assert parts.view.records[WEBHOOK_TESTS] == {}


@dataclass
class Held:
    """An endpoint that answers when it is told to."""

    endpoint: Endpoint
    came: asyncio.Semaphore
    go: asyncio.Event


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    came, go = asyncio.Semaphore(0), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            came.release()
            await go.wait()
            writer.write(OK)

    async with listening(script) as endpoint:
        yield Held(endpoint, came, go)


async def test_a_few_at_a_time(api: Api, held: Held) -> None:
    """A tenant's third test at a time is refused until one has ended; its other work goes on."""
    path = await webhook(api, held.endpoint)
    running = [asyncio.create_task(tried(api, path)) for _ in range(2)]
    for _ in running:
        await held.came.acquire()
    refused = await tried(api, path, None, 429)
    assert "Too many tests" in refused["detail"]
    assert (await api.patch(path, {"name": "meanwhile"}))["name"] == "meanwhile"
    held.go.set()
    assert [result["outcome"] for result in await asyncio.gather(*running)] == ["success"] * 2
    assert (await tried(api, path))["outcome"] == "success"


async def test_an_edit_meanwhile_makes_it_another_configuration(api: Api, held: Held, parts: Parts) -> None:
    """What was found of the old URL is told, and not held against the new one."""
    path = await webhook(api, held.endpoint)
    running = asyncio.create_task(tried(api, path))
    await held.came.acquire()
    await api.patch(path, {"url": "https://127.0.0.1:1/other"})
    held.go.set()
    result = await running
    assert (result["outcome"], result["recorded"]) == ("success", False)
    assert parts.view.records[WEBHOOK_TESTS] == {}


async def test_who_leaves_has_still_tested(api: Api, held: Held, parts: Parts) -> None:
    """A window that is closed in the middle changes nothing: the outcome is recorded when it is there."""
    path = await webhook(api, held.endpoint)
    running = asyncio.create_task(tried(api, path))
    await held.came.acquire()
    tasks = set(parts.deps.trials._tasks)
    running.cancel()
    held.go.set()
    await asyncio.gather(*tasks)
    assert len(parts.view.records[WEBHOOK_TESTS]) == 1


async def test_the_outcome_is_told_when_it_cannot_be_recorded(api: Api, world: World, parts: Parts) -> None:
    """While Kafka takes no change, what was found out is not lost on the one who asked."""
    async with world.answering() as endpoint:
        path = await webhook(api, endpoint)
        parts.control.down = True
        result = await tried(api, path)
    assert (result["outcome"], result["recorded"]) == ("success", False)


async def test_each_step_as_an_event_stream(api: Api, world: World) -> None:
    """`progress` and `attempt` as they come, then `outcome`, which is what is answered without a stream."""
    async with world.answering(scripted(500, 200)) as endpoint:
        path = await webhook(api, endpoint)
        answer = await api.client.post(f"{path}/test", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.partition("\ndata: ") for block in answer.text.split("\n\n") if block]
    told = [(name.removeprefix("event: "), json.loads(data)) for name, _, data in events]
    assert [name for name, _ in told] == ["progress", "attempt", "progress", "progress", "attempt", "outcome"]
    assert told[2][1] == {"attempt": 2, "of": 3, "doing": "waiting", "seconds": 0.0}
    outcome = told[-1][1]
    assert (outcome["outcome"], outcome["attempts"]) == ("success", [told[1][1], told[4][1]])


async def test_a_refusal_is_no_stream(api: Api) -> None:
    """Who asks for a stream is refused like anyone else."""
    await api.tenant()
    answer = await api.client.post("/v1/tenants/acme/webhooks/wh_none/test", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_an_outcome_that_cannot_be_read_shows_nothing(api: Api, world: World, parts: Parts) -> None:
    """A broken record hides no webhook, and the next test puts it right."""
    async with world.answering(scripted(500)) as endpoint:
        path = await webhook(api, endpoint)
        key = f"acme/{path.rpartition('/')[2]}"
        parts.view.put(WEBHOOK_TESTS, key, b"\0\0\0\0\1broken")
        assert await error(api, path) is None
        await tried(api, path)
        assert await error(api, path) is not None


def test_a_type_of_no_example_is_made_up_where_any_type_goes() -> None:
    """Only the open catalogue needs one: everywhere else each type has an example of its own."""
    for profile in PROFILES.values():
        known = {one.type for one in examples(profile.name)}
        assert known
        assert set(profile.catalogue.by_name) <= known
    assert json.loads(module._MADE_UP)
