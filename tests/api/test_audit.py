"""Who changed what: one record of every change, in the transaction that makes it."""

from __future__ import annotations

import pytest

from pipeline.api.lists import written_time
from pipeline.flow.history import AuditSeen
from tests.api.conftest import URL, Api
from tests.api.parts import Parts
from tests.api.test_keys import make


async def test_every_change_leaves_one_record(api: Api, parts: Parts) -> None:
    """Each change of tenant, webhook and key tells its operation, whose it was, what was changed, in which fields."""
    hooks = await api.tenant()
    await api.patch("/v1/tenants/acme", {"plan": "free", "limits": {"events_per_second": 5}})
    webhook = (await api.post(hooks, {"url": URL, "events": ["*"]}))["id"]
    place = f"{hooks}/{webhook}"
    await api.patch(place, {"name": "Billing", "headers": {"X-Token": "canary"}})
    await api.ask("POST", f"{place}/deactivate")
    await api.ask("POST", f"{place}/activate")
    await api.ask("POST", f"{place}/rotate-secret")
    await api.ask("DELETE", place, None, 204)
    key = (await make(api, "viewer", "acme"))["id"]
    await api.ask("DELETE", f"/v1/keys/{key}", None, 204)
    platform = (await make(api, "platform_admin"))["id"]
    await api.ask("DELETE", "/v1/tenants/acme")
    assert [(one.action, one.tenant, one.target, one.detail) for one in parts.control.audits] == [
        ("createTenant", "acme", "acme", "profile standard"),
        ("updateTenant", "acme", "acme", "limits, plan"),
        ("createWebhook", "acme", webhook, "events, url"),
        ("updateWebhook", "acme", webhook, "headers, name"),
        ("deactivateWebhook", "acme", webhook, ""),
        ("activateWebhook", "acme", webhook, ""),
        ("rotateSecret", "acme", webhook, ""),
        ("deleteWebhook", "acme", webhook, ""),
        ("createKey", "acme", key, "role viewer"),
        ("revokeKey", "acme", key, "role viewer"),
        ("createKey", None, platform, "role platform_admin"),
        ("deleteTenant", "acme", "acme", ""),
    ]
    assert len({one.id for one in parts.control.audits}) == 12
    times = [one.time_ms for one in parts.control.audits]
    assert times == sorted(times)


async def test_it_tells_who(api: Api, parts: Parts) -> None:
    """The record has the id and role of the key that was used; the deployment's own is `admin`."""
    hooks = await api.tenant()
    made = await make(api, "owner", "acme")
    await api.using(made["key"]).post(hooks, {"url": URL, "events": ["*"]})
    found = [(one.key, one.role) for one in parts.control.audits]
    assert found == [("admin", "platform_admin")] * 2 + [(made["id"], "owner")]


async def test_what_changes_nothing_leaves_none(api: Api, parts: Parts) -> None:
    """Reading, being refused, and a change of nothing are no changes."""
    hooks = await api.tenant()
    await api.post(hooks, {"url": "nothing"}, 422)
    await api.patch("/v1/tenants/acme", {"name": "acme"})
    await api.post("/v1/tenants", {"id": "acme", "name": "A", "profile": "standard"}, 409)
    await api.get(hooks)
    assert len(parts.control.audits) == 1


@pytest.mark.secrets
async def test_it_holds_no_secret(api: Api, parts: Parts) -> None:
    """Neither what was sent as a secret nor what was generated is in any record."""
    hooks = await api.tenant(profile="qase", plan="business")
    body = {"url": URL, "name": "x", "events": ["*"], "auth": {"type": "qase_secret", "secret": "canary-1"}}
    webhook = (await api.post(hooks, {**body, "headers": {"X-Token": "canary-2"}}))["id"]
    await api.ask("POST", f"{hooks}/{webhook}/rotate-secret", {"secret": "canary-3"})
    key = (await make(api, "owner", "acme"))["key"]
    records = b"".join(parts.codec.encode_audit(one) for one in parts.control.audits)
    for secret in ("canary-1", "canary-2", "canary-3", key.rpartition("_")[2]):
        assert secret.encode() not in records


async def logged(api: Api, parts: Parts) -> None:
    """Tenants acme and other, changed once each, and what the recorder makes of it."""
    for tenant in ("acme", "other"):
        await api.tenant(tenant=tenant)
        await api.patch(f"/v1/tenants/{tenant}", {"name": "New"})
    await make(api, "platform_admin")
    await parts.deps.log.ask(lambda log: log.write([AuditSeen(one) for one in parts.control.audits]))


async def test_the_platform_reads_all(api: Api, parts: Parts) -> None:
    """The list is newest first, page by page, and can be narrowed to a tenant and a time."""
    await logged(api, parts)
    everything = (await api.get("/v1/audit"))["items"]
    newest = parts.control.audits[-1]
    assert [one["id"] for one in everything] == [one.id for one in reversed(parts.control.audits)]
    told = {"id": newest.id, "time": written_time(newest.time_ms), "key": "admin", "role": "platform_admin"}
    what = {"action": "createKey", "tenant": None, "target": newest.target, "detail": "role platform_admin"}
    assert everything[0] == {**told, **what}
    assert [one["action"] for one in (await api.get("/v1/audit?tenant=other"))["items"]] == [
        "updateTenant",
        "createTenant",
    ]
    page = await api.get("/v1/audit?limit=2")
    rest = await api.get("/v1/audit", params={"limit": 200, "cursor": page["next"]})
    assert [*page["items"], *rest["items"]] == everything
    to = everything[1]["time"]
    assert (await api.get("/v1/audit", params={"to": to}))["items"] == everything[2:]
    assert (await api.get("/v1/audit", params={"from": to}))["items"] == everything[:2]
    await api.get("/v1/audit?from=yesterday", 422)


@pytest.mark.authz
async def test_a_tenant_reads_its_own(api: Api, parts: Parts) -> None:
    """A tenant's admin sees what was changed in its tenant, by whomever; another's and the platform's are not there."""
    await logged(api, parts)
    admin = api.using((await make(api, "admin", "acme"))["key"])
    for path in ("/v1/audit", "/v1/audit?tenant=acme"):
        assert {one["tenant"] for one in (await admin.get(path))["items"]} == {"acme"}
    hidden = await admin.get("/v1/audit?tenant=other", 404)
    assert await admin.get("/v1/audit?tenant=nobody", 404) == hidden


@pytest.mark.authz
async def test_an_earlier_tenant_of_the_same_id_is_another(api: Api, parts: Parts) -> None:
    """What was changed before a tenant was removed is the platform's to read, not the next tenant's of that id."""
    await logged(api, parts)
    await api.ask("DELETE", "/v1/tenants/acme")
    await api.tenant()
    await parts.deps.log.ask(lambda log: log.write([AuditSeen(one) for one in parts.control.audits]))
    admin = api.using((await make(api, "admin", "acme"))["key"])
    assert [one["action"] for one in (await admin.get("/v1/audit"))["items"]] == ["createTenant"]
    assert len((await api.get("/v1/audit?tenant=acme"))["items"]) == 4
