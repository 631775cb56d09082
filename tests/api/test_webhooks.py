from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pipeline.flow.subscription import Subscription
from pipeline.kafka.topics import SUBSCRIPTIONS
from pipeline.profiles import PROFILES
from pipeline.store.targets import ViewTargets
from tests.api.conftest import URL, Api, faults
from tests.api.parts import NOW_MS, Parts

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOK = {"url": URL, "events": ["invoice.*"]}
TENANTS: dict[str, dict[str, Any]] = {
    "standard": {},
    "monitorqa": {},
    "inspectorio": {},
    "qase": {"plan": "startup"},
    "monithq": {},
    "bugbounty": {"programs": 1},
}
BODIES: dict[str, dict[str, Any]] = {
    "standard": WEBHOOK,
    "monitorqa": {"url": URL},
    "inspectorio": {"name": "Slack", "url": URL, "components": ["Report"]},
    "qase": {"name": "CI", "url": URL, "events": ["case.created"]},
    "monithq": {"url": URL, "components": ["Site"], "events": ["incident_created"]},
    "bugbounty": {"url": URL, "events": ["report.created"]},
}


def stored(parts: Parts, path: str) -> Subscription:
    return parts.codec.decode_subscription(parts.view.get(SUBSCRIPTIONS, path))


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_product_has_its_webhook(api: Api, parts: Parts, profile: str) -> None:
    """A webhook of each product is made by its own form, is active, and the sender can use it."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    made = await api.post(webhooks, BODIES[profile])
    assert (made["tenant"], made["profile"], made["status"], made["version"]) == ("acme", profile, "active", 1)
    assert re.fullmatch(r"default" if PROFILES[profile].webhook_id else r"wh_[0-9A-Za-z]{22}", made["id"])
    assert made["events"] == BODIES[profile].get("events", list(PROFILES[profile].default_events))
    shown = await api.get(f"{webhooks}/{made['id']}")
    assert {**made, "auth": None} == {**shown, "auth": None}
    assert ViewTargets(parts.view, parts.codec, parts.vault).find("acme", made["id"]) is not None


@pytest.mark.parametrize(
    ("profile", "change", "field", "sentence"),
    [
        ("bugbounty", {"url": "http://example.com/"}, "/url", "The provided URL must be in HTTPS."),
        ("bugbounty", {"events": []}, "/events", "Select at least one event."),
        ("inspectorio", {"name": None}, "/name", "Webhook Name is mandatory."),
        ("inspectorio", {"components": []}, "/events", "Select at least 1 event for your webhook."),
        ("inspectorio", {"components": ["Rapport"]}, "/components", "'Rapport' is not a component"),
        ("qase", {"name": " "}, "/name", "A webhook needs a title."),
        ("qase", {"events": ["case.burned"]}, "/events", "'case.burned' matches no event type"),
        ("monitorqa", {"events": ["AUDIT_ASSIGNED"]}, "/events", "events cannot be chosen"),
        ("standard", {"url": "https://user:pw@example.com/"}, "/url", "user name or password"),
        ("standard", {"url": "https://127.0.0.1/"}, "/url", "public address"),
        ("standard", {"url": "https://localhost/"}, "/url", "public name"),
        ("standard", {"url": "http://example.com/"}, "/url", "https://"),
        ("standard", {"headers": {"Host": "x"}}, "/headers/Host", "set by the platform"),
        ("standard", {"headers": {"Webhook-Signature": "x"}}, "/headers/Webhook-Signature", "set by the platform"),
        ("standard", {"headers": {"X-A": "a\r\nb: c"}}, "/headers/X-A", "one line"),
        ("standard", {"auth": {"type": "basic"}}, "/auth/type", "standard_webhooks"),
        ("standard", {"auth": {"secret": "short"}}, "/auth/secret", "must begin with whsec_"),
        ("standard", {"auth": {"algorithm": "md5"}}, "/auth/algorithm", "hmac-sha256, ed25519"),
        ("standard", {"auth": {"algorithm": "ed25519", "secret": SECRET}}, "/auth/algorithm", "whsk_"),
        ("standard", {"auth": {"username": "u"}}, "/auth/username", "has no username"),
        ("monithq", {"auth": {"algorithm": "ed25519"}}, "/auth/algorithm", "none"),
        ("inspectorio", {"auth": {"type": "basic", "username": "u"}}, "/auth/password", "is required"),
        ("inspectorio", {"auth": {"username": "a:b", "password": "p"}}, "/auth/username", "colon"),
        ("standard", {"rate": 0}, "/rate", "greater than 0"),
        ("standard", {"max_in_flight": 1.5}, "/max_in_flight", "integer"),
        ("standard", {"filter": "data.id = '7'"}, "/filter", "at character 9: '=' is no part of an expression"),
        ("standard", {"filter": "lower(type)"}, "/filter", "at character 1: there is no function lower()"),
        ("standard", {"filter": ""}, "/filter", "at least 1 character"),
        ("standard", {"projection": "{id: data.id"}, "/projection", "at character 13: it ends too early"),
        ("qase", {"projection": "data"}, "/projection", "Qase sends its events whole"),
        ("standard", {"id": "mine"}, "/id", "no such field"),
    ],
)
async def test_a_refusal_says_the_products_reason(
    api: Api, profile: str, change: dict[str, Any], field: str, sentence: str
) -> None:
    """What a product or the platform forbids is refused at its field, in the product's own words where it has some."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    problem = await api.post(webhooks, {**BODIES[profile], **change}, 422)
    assert field in faults(problem)
    assert any(sentence in error["message"] for error in problem["errors"] if error["field"] == field)
    assert (await api.get(webhooks))["items"] == []


@pytest.mark.parametrize(
    ("profile", "field", "sentence"),
    [
        ("qase", "/plan", "Webhooks are available in Startup, Business, and Enterprise subscriptions."),
        ("bugbounty", "/programs", "You must have at least one program in your Business Unit to configure a webhook."),
    ],
)
async def test_a_precondition_that_does_not_hold_is_a_conflict(
    api: Api, profile: str, field: str, sentence: str
) -> None:
    """A tenant that may have no webhook is told so in the product's words."""
    webhooks = await api.tenant(profile)
    problem = await api.post(webhooks, BODIES[profile], 409)
    assert (problem["detail"], list(faults(problem))) == (sentence, [field])


@pytest.mark.parametrize("profile", ["bugbounty", "monitorqa"])
async def test_a_second_webhook_is_a_conflict_where_one_is_allowed(api: Api, profile: str) -> None:
    """Of several that come at once one is made; the others hear the product's reason; after removal it can be made."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    answers = await asyncio.gather(*(api.client.post(webhooks, json=BODIES[profile]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refused["detail"] == PROFILES[profile].refusals.second
    await api.ask("DELETE", f"{webhooks}/default", None, 204)
    await api.post(webhooks, BODIES[profile])


async def test_webhooks_are_suspended_while_the_plan_does_not_hold(api: Api, parts: Parts) -> None:
    """On a downgrade webhooks are suspended with the product's reason and come back as they were; none is removed."""
    webhooks = await api.tenant("qase", plan="startup")
    made = await api.post(webhooks, BODIES["qase"])
    targets = ViewTargets(parts.view, parts.codec, parts.vault)
    await api.patch("/v1/tenants/acme", {"plan": "free"})
    shown = await api.get(f"{webhooks}/{made['id']}")
    assert (shown["status"], shown["active"]) == ("suspended", True)
    assert shown["state"]["reason"].startswith("Webhooks are available in Startup")
    assert targets.find("acme", made["id"]) is None
    await api.post(f"{webhooks}/{made['id']}/activate", None, 409)
    await api.patch("/v1/tenants/acme", {"plan": "business"})
    assert (await api.get(f"{webhooks}/{made['id']}"))["status"] == "active"
    assert targets.find("acme", made["id"]) is not None


@pytest.mark.parametrize("profile", ["standard", "monithq", "bugbounty"])
async def test_a_secret_that_is_needed_is_generated_and_shown_once(api: Api, profile: str) -> None:
    """The 201 shows the generated secret whole; after that only its end is shown."""
    webhooks = await api.tenant(profile, **TENANTS[profile])
    made = await api.post(webhooks, BODIES[profile])
    secret = made["auth"]["secret"]
    assert len(secret) >= 38
    for shown in (await api.get(f"{webhooks}/{made['id']}"), (await api.get(webhooks))["items"][0]):
        assert shown["auth"]["secret"] != secret
        assert shown["auth"]["secret"].endswith("…" + secret[-4:])
    assert (await api.patch(f"{webhooks}/{made['id']}", {"name": "n"}))["auth"]["secret"].endswith("…" + secret[-4:])


async def test_no_secret_is_generated_where_none_is_needed(api: Api) -> None:
    """Qase's secret is the customer's own text, or none."""
    webhooks = await api.tenant("qase", plan="startup")
    made = await api.post(webhooks, BODIES["qase"])
    assert made["auth"] == {"type": "qase_secret"}


async def test_a_given_secret_is_masked_at_once(api: Api, parts: Parts) -> None:
    """Whoever gave a secret has it: no answer repeats it, and no record holds it in the open."""
    webhooks = await api.tenant()
    made = await api.post(webhooks, {**WEBHOOK, "auth": {"secret": SECRET}, "headers": {"X-Token": "canary-3"}})
    assert made["auth"] == {"type": "standard_webhooks", "secret": "whsec_…LaSw"}
    assert made["headers"] == {"X-Token": "***"}
    held = parts.view.get(SUBSCRIPTIONS, f"acme/{made['id']}")
    assert held is not None
    assert SECRET.encode() not in held
    assert b"canary-3" not in held


async def test_an_asymmetric_key_shows_its_public_half(api: Api) -> None:
    """With ed25519 receivers need the public key: it is shown whenever the webhook is."""
    webhooks = await api.tenant()
    made = await api.post(webhooks, {**WEBHOOK, "auth": {"algorithm": "ed25519"}})
    shown = await api.get(f"{webhooks}/{made['id']}")
    assert made["auth"]["secret"].startswith("whsk_")
    assert shown["auth"]["public_key"] == made["auth"]["public_key"]
    assert shown["auth"]["secret"].startswith("whsk_…")


async def test_an_edit_keeps_what_it_does_not_name(api: Api, parts: Parts) -> None:
    """An omitted secret stays, and so does every other field; null takes a header away."""
    webhooks = await api.tenant()
    body = {**WEBHOOK, "auth": {"secret": SECRET}, "headers": {"X-A": "1", "X-B": "2"}, "rate": 5}
    webhook = (await api.post(webhooks, body))["id"]
    before = stored(parts, f"acme/{webhook}")
    changed = await api.patch(f"{webhooks}/{webhook}", {"name": "Billing", "headers": {"X-A": None}})
    after = stored(parts, f"acme/{webhook}")
    assert (changed["name"], changed["rate"], changed["version"]) == ("Billing", 5, 2)
    assert changed["headers"] == {"X-B": "***"}
    assert after.auth == before.auth
    assert after.generation == before.generation


@pytest.mark.parametrize(
    ("patch", "raised"),
    [
        ({"url": "https://example.com/other"}, 1),
        ({"auth": {"secret": "whsec_" + "QUFB" * 8}}, 1),
        ({"auth": {"secret": SECRET}}, 0),
        ({"name": "x"}, 0),
        ({"events": ["*"]}, 0),
        ({"active": False}, 0),
        ({"headers": {"X-A": "b"}}, 0),
    ],
)
async def test_an_edit_of_url_or_authentication_begins_a_generation(
    api: Api, parts: Parts, patch: dict[str, Any], raised: int
) -> None:
    """What an endpoint's state was before another URL or secret counts for nothing afterwards; other edits keep it."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, "auth": {"secret": SECRET}}))["id"]
    await api.patch(f"{webhooks}/{webhook}", patch)
    assert stored(parts, f"acme/{webhook}").generation == 1 + raised


async def test_a_change_of_nothing_writes_nothing(api: Api, parts: Parts) -> None:
    """A patch that changes nothing leaves record and version as they are."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, "auth": {"secret": SECRET}}))["id"]
    before = parts.view.get(SUBSCRIPTIONS, f"acme/{webhook}")
    shown = await api.patch(f"{webhooks}/{webhook}", {**WEBHOOK, "auth": {"secret": SECRET}})
    assert shown["version"] == 1
    assert parts.view.get(SUBSCRIPTIONS, f"acme/{webhook}") is before


async def test_basic_authentication_is_switched_on_and_off(api: Api) -> None:
    """Inspectorio's Basic section: on with both fields, one edited without the other, off with null."""
    webhooks = await api.tenant("inspectorio")
    webhook = f"{webhooks}/{(await api.post(webhooks, BODIES['inspectorio']))['id']}"
    on = await api.patch(webhook, {"auth": {"username": "u", "password": "canary-4"}})
    assert on["auth"] == {"type": "basic", "username": "u", "password": "…"}
    assert (await api.patch(webhook, {"auth": {"username": "v"}}))["auth"]["username"] == "v"
    assert (await api.patch(webhook, {"auth": None}))["auth"] == {"type": "none"}
    assert "/auth/password" in faults(await api.patch(webhook, {"auth": {"type": "basic", "username": "u"}}, 422))


async def test_taking_a_needed_secret_away_makes_another_one(api: Api) -> None:
    """Null for a secret that the product cannot do without is a wish for a fresh one; for all of it, nothing."""
    webhooks = await api.tenant()
    webhook = f"{webhooks}/{(await api.post(webhooks, {**WEBHOOK, 'auth': {'secret': SECRET}}))['id']}"
    assert (await api.patch(webhook, {"auth": None}))["auth"]["secret"] == "whsec_…LaSw"
    assert len((await api.patch(webhook, {"auth": {"secret": None}}))["auth"]["secret"]) >= 38


async def test_a_rotated_secret_signs_along_for_a_day(api: Api, parts: Parts) -> None:
    """Rotation shows the new secret once, and for 24 hours requests carry signatures of both."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, {**WEBHOOK, "auth": {"secret": SECRET}}))["id"]
    answer = await api.post(f"{webhooks}/{webhook}/rotate-secret", None, 200)
    assert answer["auth"]["secret"].startswith("whsec_")
    assert answer["rotation"]["previous_until"].startswith("2026-01-02T00:00:00")
    for later_s, expected in ((0, {SECRET, answer["auth"]["secret"]}), (86_401, {answer["auth"]["secret"]})):
        assert verifying(parts, webhook, later_s, {SECRET, answer["auth"]["secret"]}) == expected
    assert stored(parts, f"acme/{webhook}").generation == 2


def verifying(parts: Parts, webhook: str, later_s: int, secrets: set[str]) -> set[str]:
    """Which of the secrets accept a request that is sent so much later."""
    from pipeline.flow.deliver import Delivery, Origin  # noqa: PLC0415

    now_s = NOW_MS / 1000 + later_s
    target = ViewTargets(parts.view, parts.codec, parts.vault, lambda: now_s).find("acme", webhook)
    assert target is not None
    delivery = Delivery("msg_1", "acme", webhook, "e", "t", None, 0, b"{}", 1, Origin("events", 0, 0, 0))
    headers = {name.lower(): value for name, value in target.prepared.request(delivery, int(now_s)).headers}
    scheme = target.profile.schemes[0]
    return {secret for secret in secrets if scheme.verify(headers, b"{}", {"secret": secret}, now_s) is None}


async def test_where_a_header_holds_one_value_rotation_is_at_once(api: Api) -> None:
    """A product whose header has one value changes its secret at once, and the answer says so."""
    webhooks = await api.tenant("monithq")
    webhook = (await api.post(webhooks, BODIES["monithq"]))["id"]
    answer = await api.post(f"{webhooks}/{webhook}/rotate-secret", None, 200)
    assert answer["rotation"]["previous_until"] is None
    assert "at once" in answer["rotation"]["message"]


async def test_a_secret_that_is_the_customers_text_must_be_given(api: Api) -> None:
    """Qase's secret cannot be generated; Inspectorio without Basic has none to rotate."""
    webhooks = await api.tenant("qase", plan="startup")
    webhook = f"{webhooks}/{(await api.post(webhooks, BODIES['qase']))['id']}"
    assert faults(await api.post(f"{webhook}/rotate-secret", {}, 422)) == {"/secret": "required"}
    answer = await api.post(f"{webhook}/rotate-secret", {"secret": "a text of their own"}, 200)
    assert answer["auth"]["secret"] == "… own"
    webhooks = await api.tenant("inspectorio", "other")
    webhook = f"{webhooks}/{(await api.post(webhooks, BODIES['inspectorio']))['id']}"
    await api.post(f"{webhook}/rotate-secret", {}, 409)


async def test_activation_begins_a_generation_and_deactivation_does_not(api: Api, parts: Parts) -> None:
    """Off and on again: failures before an activation count for nothing."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    assert (await api.post(f"{webhooks}/{webhook}/deactivate", None, 200))["status"] == "inactive"
    assert stored(parts, f"acme/{webhook}").generation == 1
    assert (await api.post(f"{webhooks}/{webhook}/activate", None, 200))["status"] == "active"
    assert stored(parts, f"acme/{webhook}").generation == 2
    assert ViewTargets(parts.view, parts.codec, parts.vault).find("acme", webhook) is not None


async def test_a_webhook_can_be_made_switched_off(api: Api) -> None:
    """`active: false` makes a webhook that waits to be switched on."""
    webhooks = await api.tenant()
    assert (await api.post(webhooks, {**WEBHOOK, "active": False}))["status"] == "inactive"


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_another_tenants_webhook_is_404(api: Api, method: str) -> None:
    """A webhook is found under its own tenant alone."""
    mine, theirs = await api.tenant(), await api.tenant(tenant="other")
    webhook = (await api.post(theirs, WEBHOOK))["id"]
    await api.ask(method, f"{mine}/{webhook}", {"name": "x"} if method == "PATCH" else None, 404)
    await api.get(f"{theirs}/{webhook}")


async def test_a_removed_webhook_is_gone(api: Api, parts: Parts) -> None:
    """After DELETE neither the API nor the sender finds it, and a second DELETE is 404."""
    webhooks = await api.tenant()
    webhook = (await api.post(webhooks, WEBHOOK))["id"]
    targets = ViewTargets(parts.view, parts.codec, parts.vault)
    assert targets.find("acme", webhook) is not None
    await api.ask("DELETE", f"{webhooks}/{webhook}", None, 204)
    assert targets.find("acme", webhook) is None
    await api.ask("DELETE", f"{webhooks}/{webhook}", None, 404)


async def test_a_deployment_may_allow_http_to_its_own_networks(parts: Parts) -> None:
    """Where the deployment allows the loopback, a webhook may point there; a product's own HTTPS rule stays."""
    from pipeline.api.forms import Draft, WebhookIn, filled, judge  # noqa: PLC0415
    from pipeline.api.problems import Refusal  # noqa: PLC0415
    from pipeline.http.guard import EgressPolicy  # noqa: PLC0415

    policy = EgressPolicy.parse("127.0.0.0/8")
    form = WebhookIn(url="http://127.0.0.1:8123/", events=["report.created"])
    for profile, allowed in (("standard", True), ("bugbounty", False)):
        draft = filled(Draft(), form, PROFILES[profile], parts.deps.random)
        if allowed:
            judge(draft, PROFILES[profile], policy)
        else:
            with pytest.raises(Refusal, match="HTTPS"):
                judge(draft, PROFILES[profile], policy)
