"""How a webhook fares, as the API tells it."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.flow.health import EndpointState
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.kafka.writers import parsed
from pipeline.store.targets import ViewTargets
from tests.api.conftest import URL, Api
from tests.api.parts import NOW_MS, Parts
from tests.api.test_webhooks import BODIES
from tests.api.test_webhooks import TENANTS as FIT

WEBHOOK = {"url": URL, "events": ["*"]}
NOTHING = {
    "reason": None,
    "failing_since": None,
    "failures": 0,
    "last_verdict": None,
    "breaker_until": None,
    "reserved_until": None,
    "capacity": None,
    "error": None,
}


def tell(parts: Parts, webhook: str, generation: int = 1, **more: Any) -> None:
    """As a sender does."""
    state = EndpointState("acme", webhook, generation, **more)
    parts.view.put(ENDPOINT_STATE, state.path, parts.codec.encode_endpoint_state(state))


def findable(parts: Parts, webhook: str) -> bool:
    """Whether a sender would send to it."""
    return ViewTargets(parts.view, parts.codec, parts.vault).find("acme", webhook) is not None


async def test_a_webhook_of_which_nothing_is_known(api: Api) -> None:
    """A healthy endpoint causes no record: its webhook is active, with nothing to tell."""
    webhooks = await api.tenant()
    made = await api.post(webhooks, WEBHOOK)
    assert (made["status"], made["state"]) == ("active", NOTHING)


async def test_what_the_senders_know_is_shown(api: Api, parts: Parts) -> None:
    """State and status are those of the newest record, alone and in the list; times are RFC 3339 in UTC."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    known: dict[str, Any] = {"failures": 7, "last_verdict": "timeout", "capacity": 0.0, "failing_since_ms": NOW_MS - 1}
    tell(parts, webhook, **known, breaker_until_ms=NOW_MS + 60_000, reserved_until_ms=NOW_MS + 120_000)
    shown = await api.get(f"{webhooks}/{webhook}")
    assert shown["status"] == "active"
    assert shown["state"] == {
        "reason": None,
        "failing_since": "2025-12-31T23:59:59.999Z",
        "failures": 7,
        "last_verdict": "timeout",
        "breaker_until": "2026-01-01T00:01:00.000Z",
        "reserved_until": "2026-01-01T00:02:00.000Z",
        "capacity": 0.0,
        "error": None,
    }
    assert (await api.get(webhooks))["items"] == [shown]


async def test_what_has_passed_is_not_told(api: Api, parts: Parts) -> None:
    """A breaker that has closed and windows that are over are no news, whatever the last record says of them."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    tell(parts, webhook, breaker_until_ms=NOW_MS - 1, reserved_until_ms=NOW_MS - 1, failing_since_ms=NOW_MS - 1)
    state = (await api.get(f"{webhooks}/{webhook}"))["state"]
    assert (state["breaker_until"], state["reserved_until"]) == (None, None)
    assert state["failing_since"] is not None


@pytest.mark.parametrize("reason", ["gone", "failing"])
async def test_a_disabled_webhook_says_why(api: Api, parts: Parts, reason: str) -> None:
    """A webhook that failures have disabled is shown as such, with the reason."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    tell(parts, webhook, disabled=True, reason=reason, failures=20)
    shown = await api.get(f"{webhooks}/{webhook}")
    assert (shown["status"], shown["active"]) == ("disabled", True)
    assert (shown["state"]["reason"], shown["state"]["failures"]) == (reason, 20)
    assert not findable(parts, webhook)


@pytest.mark.parametrize(
    ("way", "body"),
    [
        ("activate", None),
        ("rotate-secret", {}),
        ("", {"url": "https://other.example/"}),
        ("", {"auth": {"secret": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}),
    ],
)
async def test_a_new_generation_begins_anew(api: Api, parts: Parts, way: str, body: Any) -> None:
    """Activating a disabled webhook, or another URL or authentication, ends what was known: it is sent to again."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    tell(parts, webhook, disabled=True, reason="failing", failures=20)
    if way:
        shown = await api.post(f"{webhooks}/{webhook}/{way}", body, 200)
    else:
        shown = await api.patch(f"{webhooks}/{webhook}", body)
    assert (shown["status"], shown["state"]) == ("active", NOTHING)
    assert findable(parts, webhook)
    tell(parts, webhook, 2, disabled=True, reason="gone")
    assert (await api.get(f"{webhooks}/{webhook}"))["status"] == "disabled"


@pytest.mark.parametrize("body", [{"name": "x"}, {"events": ["a.b"]}, {"rate": 5}, {"headers": {"X-A": "b"}}])
async def test_other_edits_do_not_enable(api: Api, parts: Parts, body: Any) -> None:
    """A disabled webhook stays so when something is edited that has nothing to do with its failures."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    tell(parts, webhook, disabled=True, reason="failing")
    assert (await api.patch(f"{webhooks}/{webhook}", body))["status"] == "disabled"


async def test_the_user_s_word_and_the_product_s_rule_come_first(api: Api, parts: Parts) -> None:
    """Where several keep a webhook from being sent to, the one is shown that must be mended first."""
    webhooks = await api.tenant("qase", **FIT["qase"])
    webhook = (await api.post(webhooks, BODIES["qase"]))["id"]
    tell(parts, webhook, disabled=True, reason="gone", failures=3)
    await api.patch("/v1/tenants/acme", {"plan": "free"})
    suspended = await api.get(f"{webhooks}/{webhook}")
    assert suspended["status"] == "suspended"
    assert suspended["state"]["reason"].startswith("Webhooks are available in Startup")
    inactive = await api.post(f"{webhooks}/{webhook}/deactivate", None, 200)
    assert (inactive["status"], inactive["state"]["reason"], inactive["state"]["failures"]) == ("inactive", None, 3)


async def test_a_webhook_of_an_old_id_is_not_born_disabled(api: Api, parts: Parts) -> None:
    """Where the id is always the same, a webhook that is made anew is not held to what its predecessor did."""
    webhooks = await api.tenant("monitorqa")
    webhook = (await api.post(webhooks, BODIES["monitorqa"]))["id"]
    tell(parts, webhook, 4, disabled=True, reason="gone")
    await api.ask("DELETE", f"{webhooks}/{webhook}", None, 204)
    again = await api.post(webhooks, BODIES["monitorqa"])
    assert (again["id"], again["status"], again["state"]) == (webhook, "active", NOTHING)
    assert findable(parts, webhook)
    held = parts.codec.decode_subscription(parts.view.get(SUBSCRIPTIONS, f"acme/{webhook}"))
    assert held.generation == 5


async def test_a_state_that_cannot_be_read_is_no_state(api: Api, parts: Parts) -> None:
    """Neither the webhook nor the list is a fault of ours for it."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    for junk in (b"", b"junk", b"\x00\x00\x00\x01\x00x"):  # the last one's schema is asked of a registry that is down
        parts.view.put(ENDPOINT_STATE, f"acme/{webhook}", junk)
        assert (await api.get(f"{webhooks}/{webhook}"))["state"] == NOTHING
        assert len((await api.get(webhooks))["items"]) == 1


async def test_a_newer_sender_s_state_is_read_when_its_schema_is_known(api: Api, parts: Parts) -> None:
    """The API keeps up with senders of another version without a restart."""
    from pipeline.kafka.schemas import load  # noqa: PLC0415

    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    tell(parts, webhook, disabled=True, reason="gone")
    known = parts.view.get(ENDPOINT_STATE, f"acme/{webhook}") or b""
    parts.view.put(ENDPOINT_STATE, f"acme/{webhook}", b"\x00\x00\x00\x01\x00" + known[5:])
    assert (await api.get(f"{webhooks}/{webhook}"))["status"] == "active"
    writer = parsed([load("endpoint_state")])
    assert writer is not None
    parts.codec.writers[256] = writer
    assert (await api.get(f"{webhooks}/{webhook}"))["status"] == "disabled"


async def test_the_states_are_in_no_list_of_webhooks(api: Api, parts: Parts) -> None:
    """What senders write of endpoints, also of ones that are gone, makes no tenant and no webhook."""
    webhooks = await api.tenant()
    await api.post(webhooks, WEBHOOK)
    assert len((await api.get(webhooks))["items"]) == 1
    tell(parts, "wh_gone")
    assert len((await api.get(webhooks))["items"]) == 1
    assert list(parts.view.keys(TENANTS)) == ["acme"]
