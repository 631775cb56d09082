"""How many events a tenant may send."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, faults
from tests.api.parts import Parts

EVENTS = "/v1/tenants/acme/events"


def one(number: int) -> dict[str, object]:
    return {"id": f"e{number}", "type": "a.b", "data": {}}


def batch(count: int) -> dict[str, object]:
    return {"events": [one(number) for number in range(count)]}


async def limited(api: Api, rate: int) -> None:
    await api.tenant(limits={"events_per_second": rate})


async def test_beyond_the_limit_is_429(api: Api, parts: Parts) -> None:
    """A full batch goes at once; the next event is refused with the limit and when to come again, and is not stored."""
    await limited(api, 50)
    await api.ask("POST", EVENTS, batch(1_000), 202)
    answer = await api.client.post(EVENTS, json=one(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "50 events per second" in answer.json()["detail"]
    assert len(parts.ingest.events) == 1_000
    parts.clock[0] += 1_000
    await api.ask("POST", EVENTS, batch(50), 202)
    await api.ask("POST", EVENTS, one(1), 429)


async def test_a_batch_is_refused_whole(api: Api, parts: Parts) -> None:
    """A batch for which there is no room now stores nothing and keeps nobody else out."""
    await limited(api, 10)
    await api.ask("POST", EVENTS, batch(995), 202)
    answer = await api.client.post(EVENTS, json=batch(30))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    await api.ask("POST", EVENTS, batch(5), 202)
    assert len(parts.ingest.events) == 1_000


async def test_what_is_refused_for_another_reason_counts_for_nothing(api: Api, parts: Parts) -> None:
    """Events that are not stored take nothing from the limit."""
    await limited(api, 1)
    for _ in range(3):
        await api.ask("POST", EVENTS, {"events": [{"type": "a b", "data": {}}] * 1_000}, 207)
    await api.ask("POST", EVENTS, batch(1_000), 202)
    assert len(parts.ingest.events) == 1_000


async def test_a_fast_tenant_may_send_a_second_s_worth_at_once(api: Api) -> None:
    """Where more comes in a second than a batch holds, the bucket holds that."""
    await limited(api, 3_000)
    for _ in range(3):
        await api.ask("POST", EVENTS, batch(1_000), 202)
    await api.ask("POST", EVENTS, one(1), 429)


async def test_tenants_do_not_share(api: Api) -> None:
    """What one tenant sends takes nothing from another, and who has no limit is never refused."""
    await limited(api, 1)
    await api.tenant(tenant="free")
    await api.ask("POST", EVENTS, batch(1_000), 202)
    await api.ask("POST", EVENTS, one(1), 429)
    for _ in range(3):
        await api.ask("POST", "/v1/tenants/free/events", batch(1_000), 202)


async def test_the_limit_is_the_platform_s_to_set(api: Api) -> None:
    """It is shown with the tenant, and can be changed and taken away; it holds from the next event on."""
    await limited(api, 1)
    assert (await api.get("/v1/tenants/acme"))["limits"] == {"events_per_second": 1}
    await api.ask("POST", EVENTS, batch(1_000), 202)
    await api.ask("POST", EVENTS, one(1), 429)
    await api.patch("/v1/tenants/acme", {"name": "Acme"})
    changed = await api.patch("/v1/tenants/acme", {"limits": {"events_per_second": 5_000}})
    assert (changed["name"], changed["limits"]) == ("Acme", {"events_per_second": 5_000})
    assert (await api.patch("/v1/tenants/acme", {"limits": {}}))["limits"] == {"events_per_second": 5_000}
    free = await api.patch("/v1/tenants/acme", {"limits": {"events_per_second": None}})
    assert free["limits"] == {"events_per_second": None}
    await api.ask("POST", EVENTS, one(1), 202)


@pytest.mark.parametrize("rate", [0, -1, 1_000_001, 1.5, "5", True])
async def test_a_limit_that_cannot_be(api: Api, rate: object) -> None:
    """A limit is a whole number from 1 on."""
    body = {"id": "acme", "name": "A", "profile": "standard", "limits": {"events_per_second": rate}}
    assert set(faults(await api.post("/v1/tenants", body, 422))) == {"/limits/events_per_second"}
