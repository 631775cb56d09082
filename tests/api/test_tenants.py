from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.kafka.topics import SUBSCRIPTIONS, TENANTS
from tests.api.conftest import URL, Api, faults
from tests.api.parts import Parts


async def test_a_tenant_is_made_shown_changed_and_removed(api: Api) -> None:
    """A tenant's whole life over REST."""
    made = await api.post("/v1/tenants", {"id": "p1", "name": "Project", "profile": "qase", "plan": "startup"})
    assert made["created_at"] == made["updated_at"]
    assert (made["plan"], made["programs"]) == ("startup", 0)
    assert await api.get("/v1/tenants/p1") == made
    changed = await api.patch("/v1/tenants/p1", {"name": "Other", "plan": None})
    assert (changed["name"], changed["plan"], changed["created_at"]) == ("Other", None, made["created_at"])
    assert changed["updated_at"] > made["updated_at"]
    await api.ask("DELETE", "/v1/tenants/p1", None, 200)
    await api.get("/v1/tenants/p1", 404)


async def test_a_tenants_id_is_taken_once(api: Api) -> None:
    """A second tenant of the same id is a conflict, also when both come at once."""
    body = {"id": "acme", "name": "Acme", "profile": "standard"}
    answers = await asyncio.gather(*(api.client.post("/v1/tenants", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ({"id": "x"}, {"/id": "unknown"}),
        ({"profile": "qase"}, {"/profile": "unknown"}),
        ({"name": None}, {"/name": "required"}),
        ({"limits": {"events": 1}}, {"/limits/events": "unknown"}),
    ],
)
async def test_what_cannot_be_changed_is_refused(api: Api, patch: dict[str, Any], found: dict[str, str]) -> None:
    """A tenant keeps its id, its product and a name."""
    await api.tenant()
    assert faults(await api.patch("/v1/tenants/acme", patch, 422)) == found


async def test_a_change_of_nothing_writes_nothing(api: Api, parts: Parts) -> None:
    """A patch that changes nothing leaves the record and its time as they are."""
    await api.tenant()
    before = parts.view.get(TENANTS, "acme")
    await api.patch("/v1/tenants/acme", {"name": "acme"})
    assert parts.view.get(TENANTS, "acme") is before


async def test_removing_a_tenant_removes_its_webhooks(api: Api, parts: Parts) -> None:
    """Nothing of a removed tenant stays in the views, and nothing of another one is touched."""
    for tenant in ("acme", "acme2"):
        webhooks = await api.tenant(tenant=tenant)
        await api.post(webhooks, {"url": URL, "events": ["*"]})
    await api.ask("DELETE", "/v1/tenants/acme", None, 200)
    assert list(parts.view.keys(TENANTS)) == ["acme2"]
    assert [key.partition("/")[0] for key in parts.view.keys(SUBSCRIPTIONS)] == ["acme2"]
    await api.tenant(tenant="acme")
    assert await api.get("/v1/tenants/acme/webhooks") == {"items": [], "next": None}


async def test_the_list_is_read_page_by_page(api: Api) -> None:
    """`next` leads through all tenants, newest first, each once."""
    for number in range(5):
        await api.tenant(tenant=f"t{number}")
    found: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        page = await api.get("/v1/tenants", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        found += [item["id"] for item in page["items"]]
        cursor, pages = page["next"], pages + 1
    assert (found, pages) == (["t4", "t3", "t2", "t1", "t0"], 3)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_unknown_tenant_is_404(api: Api, method: str) -> None:
    """Nothing can be asked of a tenant that is not there."""
    await api.ask(method, "/v1/tenants/nobody", {} if method == "PATCH" else None, 404)


async def test_a_tenants_own_key_is_never_shown(api: Api, parts: Parts) -> None:
    """The answer has the documented fields and no other; the record holds a key of the tenant's own."""
    made = await api.post("/v1/tenants", {"id": "acme", "name": "A", "profile": "standard"})
    fields = {"id", "name", "profile", "plan", "programs", "limits", "validation", "created_at", "updated_at"}
    assert set(made) == fields
    assert parts.codec.decode_tenant(parts.view.get(TENANTS, "acme")).data_key is not None
