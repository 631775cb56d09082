from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from pipeline.api.app import create_app
from pipeline.api.deps import Deps
from pipeline.kafka.topics import TENANTS
from pipeline.store.sealing import Sealing
from pipeline.store.secrets import Vault, open_auth
from tests.api.conftest import URL, Api
from tests.api.parts import VAULT_KEY, Parts, memory_parts
from tests.prepared import ADMIN_KEY

NEW = ("k2", bytes(range(32, 64)))
ROTATE = "/v1/secrets/rotate"


def restarted(parts: Parts, *keys: tuple[str, bytes]) -> Api:
    """The API after a restart with these keys, over the records as they are."""
    vault = Vault(keys)
    given = {name: getattr(parts.deps, name) for name in Deps.__slots__}
    fresh = {"vault": vault, "sealing": Sealing(parts.view, parts.codec, vault), "metrics": CollectorRegistry()}
    deps = Deps(**{**given, **fresh})
    transport, headers = httpx.ASGITransport(create_app(deps)), {"Authorization": f"Bearer {ADMIN_KEY}"}
    return Api(httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers))


@pytest.fixture
async def rotating(api: Api, parts: Parts) -> Api:
    """Five tenants with a webhook each, and the API with a new key before the old one."""
    for name in "abcde":
        webhooks = await api.tenant(tenant=name)
        await api.post(webhooks, {"url": URL, "events": ["*"]})
    return restarted(parts, NEW, VAULT_KEY)


def keys(answer: Any) -> dict[str, int]:
    return {key["id"]: key["tenants"] for key in answer["keys"]}


async def test_what_each_key_has_sealed_is_told(rotating: Api) -> None:
    """The status names every key by its id, which one seals and what each has sealed; never a key itself."""
    assert await rotating.get("/v1/secrets") == {
        "key": "k2",
        "keys": [
            {"id": "k2", "seals": True, "known": True, "tenants": 0},
            {"id": "k1", "seals": False, "known": True, "tenants": 5},
        ],
        "left": 5,
        "unreadable": 0,
    }


async def test_a_rotation_re_seals_all(rotating: Api, parts: Parts) -> None:
    """Afterwards the new key alone opens every tenant's secrets, and webhooks are what they were."""
    before = await rotating.get("/v1/tenants/a/webhooks")
    done = await rotating.post(ROTATE, None, 200)
    assert (done["resealed"], done["left"], done["failed"], done["next"]) == (5, 0, [], None)
    assert keys(done) == {"k2": 5, "k1": 0}
    alone = restarted(parts, NEW)
    assert await alone.get("/v1/tenants/a/webhooks") == before
    assert keys(await alone.get("/v1/secrets")) == {"k2": 5}
    held = parts.deps.directory.webhook("b", next(iter(parts.deps.directory.webhook_paths("b"))).partition("/")[2])
    tenant = parts.deps.directory.tenant("b")
    assert tenant is not None
    assert held is not None
    vault = Vault((NEW,)).tenant_vault(tenant)
    assert open_auth(vault, "b", held.webhook, held.auth.sealed).values["secret"].startswith("whsec_")


async def test_a_rotation_goes_in_steps_and_is_resumed(rotating: Api, parts: Parts) -> None:
    """Each request does so many at most; begun again, it skips what is done: those records are not written anew."""
    first = await rotating.post(ROTATE, {"limit": 2}, 200)
    assert (first["resealed"], first["left"], first["next"]) == (2, 3, "b")
    done = parts.view.get(TENANTS, "a")
    second = await rotating.post(ROTATE, {"limit": 2, "after": first["next"]}, 200)
    assert (second["resealed"], second["next"]) == (2, "d")
    again = await rotating.post(ROTATE, {"limit": 2}, 200)
    assert (again["resealed"], again["left"], again["next"]) == (1, 0, None)
    assert parts.view.get(TENANTS, "a") is done


async def test_a_dry_run_changes_nothing(rotating: Api, parts: Parts) -> None:
    """It counts by key."""
    before = dict(parts.view.records[TENANTS])
    counted = await rotating.post(ROTATE, {"dry_run": True}, 200)
    assert (counted["resealed"], counted["left"], keys(counted)) == (0, 5, {"k2": 0, "k1": 5})
    assert parts.view.records[TENANTS] == before


async def test_one_that_cannot_be_opened_does_not_stop_the_others(api: Api, parts: Parts) -> None:
    """What a key of the same name but of another value has sealed is named with its reason; the rest is done."""
    await api.tenant(tenant="a")
    await restarted(parts, ("k1", bytes(32))).tenant(tenant="b")
    await api.tenant(tenant="c")
    done = await restarted(parts, NEW, VAULT_KEY).post(ROTATE, {"limit": 1}, 200)
    assert (done["resealed"], done["next"]) == (1, "a")
    failed = await restarted(parts, NEW, VAULT_KEY).post(ROTATE, {"limit": 1, "after": "a"}, 200)
    assert (failed["resealed"], [one["tenant"] for one in failed["failed"]], failed["next"]) == (0, ["b"], "b")
    assert "key 'k1' is another one" in failed["failed"][0]["reason"]
    last = await restarted(parts, NEW, VAULT_KEY).post(ROTATE, {"after": "b"}, 200)
    assert (last["resealed"], last["left"]) == (1, 1)


async def test_an_edit_at_the_same_time_is_not_lost(rotating: Api) -> None:
    """Re-sealing waits for the tenant's lock and takes the record as it is then."""
    await asyncio.gather(
        *(rotating.patch(f"/v1/tenants/{name}", {"name": f"new {name}"}) for name in "abcde"),
        rotating.post(ROTATE, None, 200),
        *(rotating.patch(f"/v1/tenants/{name}", {"plan": "p"}) for name in "abcde"),
    )
    for name in "abcde":
        shown = await rotating.get(f"/v1/tenants/{name}")
        assert (shown["name"], shown["plan"]) == (f"new {name}", "p")
    assert keys(await rotating.get("/v1/secrets")) == {"k2": 5, "k1": 0}


async def test_without_a_broker_nothing_is_said_to_be_done(rotating: Api, parts: Parts) -> None:
    """503, and everything is still left: the command is given again later."""
    parts.control.down = True
    await rotating.post(ROTATE, None, 503)
    assert (await rotating.get("/v1/secrets"))["left"] == 5


async def test_readiness_warns_of_a_key_that_is_not_here(rotating: Api, parts: Parts) -> None:
    """An API process without a key that records need says its id and how many; it is ready all the same."""
    assert (await rotating.get("/readyz"))["warnings"] == []
    answer = await restarted(parts, NEW).get("/readyz")
    assert answer["ready"]
    assert answer["warnings"] == [
        "tenants' keys are sealed by keys that are not among the encryption keys: 'k1' has sealed 5"
    ]
    assert (await restarted(parts, NEW).get("/v1/secrets"))["keys"][1] == {
        "id": "k1",
        "seals": False,
        "known": False,
        "tenants": 5,
    }


@pytest.mark.parametrize("body", [{"limit": 0}, {"limit": 1001}, {"keys": []}, {"after": 1}])
async def test_what_cannot_be_asked_is_refused(body: dict[str, Any]) -> None:
    """Unknown fields and limits out of bounds are 422."""
    await restarted(memory_parts(), VAULT_KEY).post(ROTATE, body, 422)
