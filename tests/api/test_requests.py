"""What holds for every operation: keys, bodies, problems, health."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from pipeline.api import transport
from pipeline.api.app import create_app
from pipeline.api.auth import Keys
from pipeline.api.operations import OPERATIONS
from pipeline.api.roles import INCLUDES
from pipeline.api.transport import MAX_BODY, MAX_HELD
from pipeline.errors import SettingsError
from pipeline.flow.access import Role
from pipeline.kafka.topics import REPLAYS, SUBSCRIPTIONS, TENANTS
from tests.api.conftest import URL, Api, faults
from tests.api.parts import Parts, memory_parts
from tests.prepared import ADMIN_KEY

TENANT = {"id": "acme", "name": "Acme", "profile": "standard"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer wrong", f"Basic {ADMIN_KEY}", f"Bearer {ADMIN_KEY}x"]
)
async def test_no_operation_answers_without_a_key(parts: Parts, operation: Any, authorization: str | None) -> None:
    """Whoever has no valid key gets 401 and a challenge from every operation, before the path or the body counts."""
    transport = httpx.ASGITransport(create_app(parts.deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        headers = {"Authorization": authorization} if authorization else {}
        answer = await client.request(operation.method, operation.path, headers=headers, content=b"{")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["status"] == 401


def test_an_empty_key_is_no_key(parts: Parts) -> None:
    """A deployment without a platform key does not start, rather than accept the empty one."""
    with pytest.raises(SettingsError, match="PIPELINE_ADMIN_KEY"):
        Keys("", parts.deps.keys.key)


def test_roles_include_one_another_as_documented() -> None:
    """Owner, admin, manager and viewer each include the next; ingest stands alone; the platform's includes all."""
    assert INCLUDES[Role.OWNER] == {Role.OWNER, Role.ADMIN, Role.MANAGER, Role.VIEWER}
    assert INCLUDES[Role.MANAGER] == {Role.MANAGER, Role.VIEWER}
    assert INCLUDES[Role.INGEST] == {Role.INGEST}
    assert INCLUDES[Role.PLATFORM_ADMIN] == set(Role)


def test_no_operation_goes_through_a_thread(parts: Parts) -> None:
    """FastAPI runs what is no coroutine in a pool of threads: that cost a third of the events taken in a second."""
    calls: set[Any] = set()

    def walk(dependant: Dependant) -> None:
        calls.add(dependant.call)
        for needed in dependant.dependencies:
            walk(needed)

    for route in create_app(parts.deps).routes:
        if isinstance(route, APIRoute):
            walk(route.dependant)
    assert len(calls) > len(OPERATIONS)
    assert [call for call in calls if not inspect.iscoroutinefunction(call)] == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": "a"', b"\xff\xfe", b"[" * 100_000, b'{"id": NaN'])
async def test_a_body_that_cannot_be_read_is_400(api: Api, body: bytes) -> None:
    """What is no JSON is refused as unreadable, whatever is wrong with it."""
    await api.post("/v1/tenants", body, 400)


@pytest.mark.parametrize("body", [[], "text", 7])
async def test_a_body_of_another_shape_is_422(api: Api, body: Any) -> None:
    """JSON that is no object breaks a rule, and the problem says which."""
    assert faults(await api.post("/v1/tenants", body, 422)) == {"": "object"}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"id": "a b"}, "/id", "string_pattern_mismatch"),
        ({"id": "x" * 65}, "/id", "string_too_long"),
        ({"id": ""}, "/id", "string_too_short"),
        ({"id": 7}, "/id", "string_type"),
        ({"name": None}, "/name", "string_type"),
        ({"name": "a\nb"}, "/name", "string_pattern_mismatch"),
        ({"profile": "nobody"}, "/profile", "profile"),
        ({"programs": "1"}, "/programs", "int_type"),
        ({"programs": -1}, "/programs", "greater_than_equal"),
        ({"programs": True}, "/programs", "int_type"),
        ({"colour": "red"}, "/colour", "unknown"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_named(api: Api, change: dict[str, Any], field: str, rule: str) -> None:
    """422 names the field by its JSON pointer and the rule by its word."""
    assert faults(await api.post("/v1/tenants", {**TENANT, **change}, 422)) == {field: rule}


async def test_a_missing_field_is_named(api: Api) -> None:
    """A field that is needed and not there is named like one that is wrong."""
    assert faults(await api.post("/v1/tenants", {"id": "acme", "profile": "standard"}, 422)) == {"/name": "required"}


async def test_problems_do_not_repeat_what_was_sent(api: Api) -> None:
    """No answer to a refused request holds the value that was refused: it may be a secret."""
    webhooks = await api.tenant()
    for auth in ({"secret": "canary-1"}, {"secret": ["canary-1"]}, {"canary-1": "canary-1"}):
        problem = await api.post(webhooks, {"url": URL, "events": ["*"], "auth": auth}, 422)
        problem["errors"] = [{**error, "field": ""} for error in problem["errors"]]
        assert "canary-1" not in str(problem)


@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1])
async def test_the_size_of_a_body_is_bounded(api: Api, size: int) -> None:
    """A body of the limit is read; one byte more is 413 with the limit in the sentence."""
    if size > MAX_BODY:
        problem = await api.post("/v1/tenants", b" " * size, 413)
        assert str(MAX_BODY) in problem["detail"]
    else:
        await api.post("/v1/tenants", b" " * size, 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_is_read_as_json_whatever_it_is_called(api: Api, content_type: str | None) -> None:
    """A body is a form to curl unless it is told otherwise: the API speaks JSON alone, so it is read as JSON."""
    headers = {"Content-Type": content_type} if content_type else {}
    await api.ask("POST", "/v1/tenants", b'{"id":"acme","name":"A","profile":"standard"}', 201, headers=headers)


async def test_unknown_places_and_methods_are_problems_too(api: Api) -> None:
    """404 and 405 of the framework have the form of every other refusal."""
    await api.get("/v1/nothing", 404)
    await api.ask("PUT", "/v1/tenants", {}, 405)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=!", "cursor=YWJj"])
async def test_a_window_that_cannot_be_is_refused(api: Api, query: str) -> None:
    """A limit out of bounds, or a cursor that is none, is 422 and names the parameter."""
    assert set(faults(await api.get(f"/v1/tenants?{query}", 422))) == {"/" + query.partition("=")[0]}


async def test_no_broker_is_503(api: Api, parts: Parts) -> None:
    """While Kafka takes no change, nothing is answered as if it had been made, and when to try again is said."""
    parts.control.down = True
    answer = await api.client.post("/v1/tenants", json=TENANT)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    await api.get("/v1/tenants/acme", 404)


async def test_a_fault_of_ours_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen error is 500 without its words, which may hold what was sent; the log has its place alone."""

    async def fail(*_changes: Any) -> None:
        raise RuntimeError("canary-2")

    parts = memory_parts()
    parts.control.write = fail  # type: ignore[method-assign, assignment]
    transport = httpx.ASGITransport(create_app(parts.deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answer = await client.post("/v1/tenants", json=TENANT, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "canary-2" not in answer.text + caplog.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_a_parameter_that_is_not_known_is_refused(api: Api, operation: Any) -> None:
    """422 names each, and what there is: who writes one believes that it counts. Nothing is done."""
    await api.tenant()
    path = re.sub(r"{tenant}", "acme", operation.path)
    answer = await api.client.request(operation.method, f"{path}?no_such=1&no_such=2&other/one", content=b"{}")
    assert answer.status_code == 422
    assert faults(answer.json()) == {"/no_such": "unknown", "/other~1one": "unknown"}


async def test_parameters_are_told_apart_by_operation(api: Api, parts: Parts) -> None:
    """What a list takes is named; a replay is not begun by one who has asked for a dry run in the wrong place."""
    known = (await api.get("/v1/replays?page=2", 422))["detail"]
    assert all(name in known for name in ("limit", "cursor", "tenant"))
    webhooks = await api.tenant()
    await api.get("/v1/replays?limit=2&tenant=acme")
    await api.post(f"{webhooks}/wh_1/recover?dry_run=true", {"since": "2026-01-01T00:00:00Z"}, 422)
    await api.post("/v1/replays?dry_run=true", {"from": "2026-01-01T00:00:00Z"}, 422)
    assert not parts.view.records[REPLAYS]


async def test_whose_key_does_not_reach_so_far_is_not_told_of_parameters(api: Api) -> None:
    """403 and 404 come first."""
    await api.tenant()
    viewer = api.using((await api.post("/v1/keys", {"role": "viewer", "tenant": "acme"}))["key"])
    await viewer.get("/v1/replays?no_such=1", 403)
    await viewer.get("/v1/tenants/other?no_such=1", 404)


async def test_health_needs_no_key(parts: Parts) -> None:
    """Probes and scrapes come without a key; readiness says why not."""
    transport = httpx.ASGITransport(create_app(parts.deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/healthz")).json() == {"alive": True}
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": [], "warnings": []}
        parts.not_ready.append("Kafka is away")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["Kafka is away"])
        await client.get("/v1/tenants")
        metrics = (await client.get("/metrics")).text
    assert 'pipeline_api_request_seconds_count{operation="none",status="401"} 1.0' in metrics


@pytest.mark.contract
async def test_the_openapi_document_is_whole(api: Api) -> None:
    """OpenAPI 3.1: each operation once, with its least role, its refusals as problems, and no loose reference."""
    document = (await api.client.get("/openapi.json", headers={"Authorization": ""})).json()
    assert document["openapi"].startswith("3.1")
    found = {
        one["operationId"]: (one["x-least-role"], set(one["responses"]))
        for place, path in document["paths"].items()
        for one in path.values()
        if place.startswith("/v1/")
    }
    assert set(found) == {operation.id for operation in OPERATIONS}
    for operation in OPERATIONS:
        least, statuses = found[operation.id]
        assert least == operation.least
        assert {str(operation.status), "401", "403", "422", *map(str, operation.refusals)} <= statuses
    schemas = document["components"]["schemas"]
    assert _references(document) <= {f"#/components/schemas/{name}" for name in schemas}
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}


def _references(value: Any) -> set[str]:
    match value:
        case dict():
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(_references(inner) for inner in value.values()))
        case list():
            return set().union(*map(_references, value))
    return set()


async def test_a_key_is_compared_whole(parts: Parts) -> None:
    """A key in which the platform's is only a part is not the platform's."""
    keys = Keys("secret", parts.deps.keys.key)
    assert keys.principal("Bearer secret") is not None
    assert keys.principal("bearer secret") is not None
    assert all(keys.principal(f"Bearer {key}") is None for key in ("", "s", "secrets", "Secret", "sécret"))


async def test_a_record_that_cannot_be_read_can_be_removed(api: Api, parts: Parts) -> None:
    """What is stored of a webhook or a tenant and cannot be read is told as a fault of ours, and can be deleted."""
    hooks = await api.tenant()
    other = await api.post(hooks, {"url": URL, "events": ["*"]})
    parts.view.put(SUBSCRIPTIONS, "acme/wh_junk", b"junk")
    assert "cannot be read" in (await api.get(f"{hooks}/wh_junk", 500))["detail"]
    assert [one["id"] for one in (await api.get(hooks))["items"]] == [other["id"]]
    await api.ask("DELETE", f"{hooks}/wh_junk", None, 204)
    await api.get(f"{hooks}/wh_junk", 404)
    parts.view.put(TENANTS, "acme", b"junk")
    await api.get(hooks, 500)
    await api.ask("DELETE", "/v1/tenants/acme", None, 200)
    await api.get("/v1/tenants/acme", 404)


async def test_a_flood_of_bodies_is_bounded(parts: Parts) -> None:
    """What is beyond the bodies that may be under way gets 503 at once; when they have gone, all is as before."""
    app, gate = create_app(parts.deps), asyncio.Event()
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async def slowly() -> AsyncIterator[bytes]:
        yield b" " * (MAX_BODY - 10)
        await gate.wait()
        yield b"{}"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers) as client:
        many = [
            asyncio.create_task(client.post("/v1/tenants", content=slowly())) for _ in range(MAX_HELD // MAX_BODY + 3)
        ]
        done, waiting = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result() for task in done]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        gate.set()
        answers = refused + [await task for task in waiting]
        assert {answer.status_code for answer in answers} == {503, 422}
        assert (await client.post("/v1/tenants", json=TENANT)).status_code == 201


async def test_a_body_that_does_not_come_is_not_waited_for(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins a body and does not go on gets 408, and makes room for others."""
    monkeypatch.setattr(transport, "_PATIENCE_S", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    transported = httpx.ASGITransport(create_app(parts.deps))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transported, base_url="http://api", headers=headers) as client:
        answer = await client.post("/v1/tenants", content=never())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
