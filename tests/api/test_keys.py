"""Keys of the API: made, shown once, listed, revoked."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from pipeline.api.auth import Keys
from pipeline.flow.access import Role
from pipeline.kafka.topics import KEYS
from tests.api.conftest import Api, faults
from tests.api.parts import Parts

ROLES = [role for role in Role if role is not Role.PLATFORM_ADMIN]


async def make(api: Api, role: str, tenant: str | None = None, **more: Any) -> Any:
    body = {"role": role, **({"tenant": tenant} if tenant else {}), **more}
    return await api.post("/v1/keys", body)


async def test_a_key_is_shown_once_and_kept_as_a_hash(api: Api, parts: Parts) -> None:
    """The 201 holds `whk_<id>_<secret>` with 256 random bits; no other answer and no record holds the secret."""
    await api.tenant()
    made = await make(api, "owner", "acme", name="Ann")
    prefix, key_id, secret = made["key"].split("_")
    assert (prefix, key_id, made["prefix"]) == ("whk", made["id"], f"whk_{key_id}")
    assert re.fullmatch("[A-Za-z0-9]{43}", secret)
    assert 62**43 > 2**256
    shown = {name: value for name, value in made.items() if name != "key"}
    assert await api.get(f"/v1/keys/{key_id}") == shown
    assert (await api.get("/v1/keys"))["items"] == [shown]
    assert (shown["role"], shown["tenant"], shown["name"], shown["revoked_at"]) == ("owner", "acme", "Ann", None)
    record = parts.view.get(KEYS, key_id)
    assert record is not None
    assert secret.encode() not in record
    assert parts.codec.decode_api_key(record).hash == hashlib.sha256(secret.encode()).digest()


async def test_a_revoked_key_opens_nothing(api: Api) -> None:
    """It answers 401 from the moment of the 204 on, stays in the list with that time, and may be revoked again."""
    await api.tenant()
    made = await make(api, "viewer", "acme")
    viewer = api.using(made["key"])
    await viewer.get("/v1/tenants/acme")
    for _ in range(2):
        await api.ask("DELETE", f"/v1/keys/{made['id']}", None, 204)
        await viewer.get("/v1/tenants/acme", 401)
        revoked = (await api.get(f"/v1/keys/{made['id']}"))["revoked_at"]
        assert revoked > made["created_at"]
    assert [key["revoked_at"] for key in (await api.get("/v1/keys"))["items"]] == [revoked]


async def test_what_is_not_the_whole_key_is_nobody(api: Api, parts: Parts) -> None:
    """Another id, another secret, another prefix or a part of the key are as no key at all."""
    await api.tenant()
    key = (await make(api, "owner", "acme"))["key"]
    prefix, key_id, secret = key.split("_")
    keys = Keys("secret", parts.deps.keys.key)
    wrong = [f"{prefix}_{key_id}_{secret[:-1]}", f"{prefix}_{key_id}_{secret}x", f"{prefix}_{key_id}_", secret, key_id]
    wrong += [
        f"{prefix}_{key_id}x_{secret}",
        f"x_{key_id}_{secret}",
        f"{prefix}_{secret}",
        f"{key}_",
        f"__{secret}",
        "",
    ]
    found = keys.principal(f"Bearer {key}")
    assert found is not None
    assert (found.key, found.role, found.tenant) == (key_id, Role.OWNER, "acme")
    assert [one for one in wrong if keys.principal(f"Bearer {one}")] == []
    assert keys.principal(f"Basic {key}") is None


async def test_the_deployment_s_own_key_stays(api: Api) -> None:
    """The first platform key is no record: it is in no list, and cannot be revoked over the API."""
    assert await api.get("/v1/keys") == {"items": [], "next": None}
    await api.ask("DELETE", "/v1/keys/admin", None, 404)


async def test_the_platform_makes_any_key(api: Api) -> None:
    """A platform_admin makes keys of every role for every tenant, and others like itself."""
    await api.tenant()
    platform = api.using((await make(api, "platform_admin"))["key"])
    for role in ROLES:
        assert (await make(platform, role, "acme"))["role"] == role
    assert len((await platform.get("/v1/keys"))["items"]) == 1 + len(ROLES)
    assert len((await platform.get("/v1/keys?tenant=acme"))["items"]) == len(ROLES)


async def test_an_owner_makes_keys_of_its_own_tenant(api: Api) -> None:
    """The tenant need not be named; the role may be its own or less, and never the platform's."""
    await api.tenant()
    owner = api.using((await make(api, "owner", "acme"))["key"])
    for role in ROLES:
        assert (await make(owner, role))["tenant"] == "acme"
    assert (await make(owner, "viewer", "acme"))["tenant"] == "acme"
    refused = await owner.post("/v1/keys", {"role": "platform_admin"}, 403)
    assert "above owner" in refused["detail"]
    assert len((await owner.get("/v1/keys"))["items"]) == 2 + len(ROLES)


@pytest.mark.authz
async def test_nobody_sees_another_tenant_s_keys(api: Api) -> None:
    """Another tenant, its keys and the platform's are 404 in the very words of what is not there; lists lack them."""
    await api.tenant()
    await api.tenant(tenant="other")
    owner = api.using((await make(api, "owner", "acme"))["key"])
    foreign, platform = await make(api, "owner", "other"), await make(api, "platform_admin")
    own = await make(owner, "viewer")
    unknown = await owner.get("/v1/keys/nothing", 404)
    for key in (foreign, platform):
        assert await owner.get(f"/v1/keys/{key['id']}", 404) == unknown
        assert await owner.ask("DELETE", f"/v1/keys/{key['id']}", None, 404) == unknown
        assert (await api.get(f"/v1/keys/{key['id']}"))["revoked_at"] is None
    nowhere = await owner.get("/v1/keys?tenant=nobody", 404)
    assert await owner.get("/v1/keys?tenant=other", 404) == nowhere
    assert await owner.post("/v1/keys", {"role": "viewer", "tenant": "other"}, 404) == nowhere
    assert await owner.post("/v1/keys", {"role": "viewer", "tenant": "nobody"}, 404) == nowhere
    assert own["id"] in {key["id"] for key in (await owner.get("/v1/keys"))["items"]}
    assert {key["tenant"] for key in (await owner.get("/v1/keys"))["items"]} == {"acme"}


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        ({"role": "owner"}, 422, {"/tenant": "required"}),
        ({"role": "platform_admin", "tenant": "acme"}, 422, {"/tenant": "unknown"}),
        ({"role": "boss", "tenant": "acme"}, 422, {"/role": "literal_error"}),
        ({"tenant": "acme"}, 422, {"/role": "required"}),
        ({"role": "owner", "tenant": "acme", "hash": "x"}, 422, {"/hash": "unknown"}),
        ({"role": "owner", "tenant": "nobody"}, 404, {}),
    ],
)
async def test_a_key_that_cannot_be(api: Api, body: dict[str, str], status: int, found: dict[str, str]) -> None:
    """A platform_admin belongs to no tenant, every other key to one that is there."""
    await api.tenant()
    assert faults(await api.post("/v1/keys", body, status)) == found


async def test_a_tenant_s_keys_go_with_it(api: Api, parts: Parts) -> None:
    """A key of a removed tenant opens nothing, also when there is a tenant of that id again; others' keys stay."""
    for tenant in ("acme", "other"):
        await api.tenant(tenant=tenant)
    gone, stays = (
        api.using((await make(api, "owner", "acme"))["key"]),
        api.using((await make(api, "owner", "other"))["key"]),
    )
    await gone.get("/v1/tenants/acme")
    await api.ask("DELETE", "/v1/tenants/acme", None, 200)
    await api.tenant()
    await gone.get("/v1/tenants/acme", 401)
    await stays.get("/v1/tenants/other")
    assert len(list(parts.view.keys(KEYS))) == 1


async def test_lists_are_read_page_by_page(api: Api) -> None:
    """`next` leads through all keys of a tenant, newest first, each once; no other tenant's are among them."""
    for tenant in ("acme", "other"):
        await api.tenant(tenant=tenant)
    made = [(await make(api, "viewer", "acme"))["id"] for _ in range(5)]
    await make(api, "viewer", "other")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = await api.get("/v1/keys", params={"tenant": "acme", "limit": 2, **more})
        found += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert found == made[::-1]


async def test_a_key_that_cannot_be_read_opens_nothing(api: Api, parts: Parts) -> None:
    """A record that cannot be read keeps no other key from working, and is in no list."""
    await api.tenant()
    key = (await make(api, "viewer", "acme"))["key"]
    parts.view.put(KEYS, "junk", b"junk")
    await api.using("whk_junk_secret").get("/v1/tenants/acme", 401)
    await api.using(key).get("/v1/tenants/acme")
    assert len((await api.get("/v1/keys"))["items"]) == 1
