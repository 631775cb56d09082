"""Events in the delivery log, and why a webhook did or did not get one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.flow.health import EndpointState
from pipeline.flow.history import EventSeen
from pipeline.kafka.topics import ENDPOINT_STATE, EVENTS
from tests.api.conftest import URL, Api
from tests.api.logged import HOUR_MS, Logged, logged
from tests.api.parts import NOW_MS, Parts

E = "/v1/tenants/acme/events"
LATER_MS = NOW_MS + HOUR_MS
"""When events come: after the webhooks were made."""


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    return await logged(api, parts)


async def test_events_are_listed(api: Api, log: Logged) -> None:
    """Newest first, by cursor; type and time narrow them."""
    assert (await api.get(E)) == {"items": [], "next": None}
    for n, type_ in enumerate("aba"):
        await log.event(f"e{n}", type_, at=LATER_MS + n)
    first = await api.get(E, params={"limit": 2})
    rest = await api.get(E, params={"limit": 2, "cursor": first["next"]})
    assert [one["id"] for one in first["items"] + rest["items"]] == ["e2", "e1", "e0"]
    assert [one["id"] for one in (await api.get(E, params={"type": "b"}))["items"]] == ["e1"]
    assert [one["id"] for one in (await api.get(E, params={"to": "2026-01-01T01:00:00.001Z"}))["items"]] == ["e0"]
    await api.get("/v1/tenants/nobody/events", 404)


@pytest.mark.parametrize("ident", ["e1", "a/b c", "ü?#", "x/explain/y"])
async def test_an_event_is_shown_with_its_data(api: Api, log: Logged, ident: str) -> None:
    """Its data is to the digit what its producer wrote, whatever its id holds; its deliveries are with it."""
    held = await log.delivery(await log.event(ident, data='{"n":1.50,"big":12345678901234567890123}'))
    path = f"{E}/{_quoted(ident)}"
    answer = await api.client.get(path)
    assert answer.status_code == 200, answer.text
    assert '"data":{"n":1.50,"big":12345678901234567890123}' in answer.text
    shown = answer.json()
    assert (shown["id"], shown["type"], shown["actor"], shown["source"]) == (ident, "order.paid", "7", "shop")
    assert [(one["id"], one["webhook"]) for one in shown["deliveries"]] == [(held.id, log.webhook)]
    assert shown["record"] == {"topic": EVENTS, "partition": 0, "offset": 0}
    assert (await api.get(f"{path}/explain"))["event"] == ident


async def test_data_that_is_gone_is_said_to_be(api: Api, log: Logged) -> None:
    """Null with a sentence: when retention took it, when Kafka does not answer, and when it is not JSON."""
    await log.event()
    await log.event("e2", data="{")
    assert "not JSON" in (await api.get(f"{E}/e2"))["data_note"]
    log.parts.records.down = True
    assert "Kafka" in (await api.get(f"{E}/e1"))["data_note"]
    log.parts.records.down = False
    log.parts.records.trim(EVENTS)
    shown = await api.get(f"{E}/e1")
    assert (shown["data"], shown["actor"]) == (None, None)
    assert "retention" in shown["data_note"]


async def test_an_event_that_is_not_there(api: Api, log: Logged) -> None:
    """404, also for a foreign tenant's and for an id that no database bears."""
    await log.event()
    await api.tenant(tenant="other")
    for path in (f"{E}/e2", "/v1/tenants/other/events/e1", f"{E}/e2/explain"):
        await api.get(path, 404)
    await api.get(f"{E}/%00", 422)


async def test_a_time_that_no_calendar_has_is_shown_all_the_same(api: Api, log: Logged) -> None:
    """A producer on Kafka may have written any number."""
    await log.write(EventSeen("acme", "odd", "a", 2**60, 0, 7, NOW_MS))
    assert (await api.get(f"{E}/odd"))["time"] == f"@{2**60}"


async def _why(api: Api, event: str = "e1") -> dict[str, Any]:
    said = await api.get(f"{E}/{event}/explain")
    assert "as they are now" in said["judged_by"]
    return {one["webhook"]: one for one in said["items"]}


async def test_why_each_webhook_did_or_did_not_get_it(api: Api, log: Logged) -> None:
    """A delivery with the offset that its router used, or the reason, each of its own."""
    hooks = "/v1/tenants/acme/webhooks"

    async def hook(**more: Any) -> str:
        return str((await api.post(hooks, {"url": URL, "events": ["*"], **more}))["id"])

    other_type, inactive = await hook(events=["invoice.*"]), await hook(active=False)
    filtered, passing = await hook(filter="data.n > `2`"), await hook(filter="data.n > `1`")
    disabled, removed = await hook(), await hook()
    state = EndpointState("acme", disabled, 1, disabled=True, reason="gone")
    log.parts.view.put(ENDPOINT_STATE, f"acme/{disabled}", log.parts.codec.encode_endpoint_state(state))
    event = await log.event(at=LATER_MS)
    held = await log.delivery(event, end="failed")
    await log.delivery(event, webhook=removed)
    await api.ask("DELETE", f"{hooks}/{removed}", status=204)
    log.parts.clock[0] += 2 * HOUR_MS
    later = await hook()
    await api.patch(f"{hooks}/{passing}", {"name": "changed"})
    found = await _why(api)
    reasons = {webhook: one["reason"] for webhook, one in found.items()}
    assert reasons == {
        log.webhook: "delivery",
        removed: "delivery",
        other_type: "type",
        inactive: "inactive",
        filtered: "filter",
        passing: "changed",
        disabled: "disabled",
        later: "created_later",
    }
    got = found[log.webhook]
    assert (got["delivery"]["id"], got["delivery"]["status"], got["subscriptions_offset"]) == (held.id, "failed", 11)
    assert "(gone)" in found[disabled]["detail"]


async def test_a_filter_cannot_be_judged_without_the_data(api: Api, parts: Parts) -> None:
    """When retention took the event, what its filter would say is not known, and is not claimed."""
    log = await logged(api, parts, filter="data.n > `2`")
    await log.event(at=LATER_MS)
    assert (await _why(api))[log.webhook]["reason"] == "filter"
    parts.records.trim(EVENTS)
    assert (await _why(api))[log.webhook]["reason"] == "unknown"


async def test_what_no_webhook_gets(api: Api, parts: Parts) -> None:
    """A product that is suspended, or that does not know the event, is said to be so in its own words."""
    await api.post("/v1/tenants", {"id": "acme", "name": "A", "profile": "qase", "plan": "business"})
    form = {"name": "n", "url": URL, "events": ["*"], "auth": {"secret": "x" * 20}}
    made = await api.post("/v1/tenants/acme/webhooks", form)
    log = Logged(api, parts, made["id"])
    await log.event("e1", "run.started", data="{}", at=LATER_MS)
    await log.event("e2", "no.such", at=LATER_MS)
    assert (await _why(api, "e2"))[made["id"]]["reason"] == "refused"
    await api.patch("/v1/tenants/acme", {"plan": None})
    assert (await _why(api, "e2"))[made["id"]]["reason"] == "refused"
    assert (await _why(api, "e1"))[made["id"]]["reason"] == "suspended"


async def test_webhooks_are_explained_a_page_at_a_time(api: Api, log: Logged) -> None:
    """A tenant may have any number of webhooks."""
    for _ in range(3):
        await api.post("/v1/tenants/acme/webhooks", {"url": URL, "events": ["*"]})
    await log.event(at=LATER_MS)
    first = await api.get(f"{E}/e1/explain", params={"limit": 3})
    rest = await api.get(f"{E}/e1/explain", params={"limit": 3, "cursor": first["next"]})
    assert [len(first["items"]), len(rest["items"])] == [3, 1]
    assert {one["reason"] for one in first["items"] + rest["items"]} == {"unknown"}


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
