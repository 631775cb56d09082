from __future__ import annotations

from typing import Any

import pytest

from pipeline.api.certificates import CertificateForm
from pipeline.api.fields import form_of, options_of
from pipeline.api.forms import WebhookPatch
from pipeline.profiles import PROFILES, examples
from tests.api.conftest import URL, Api


async def test_all_products_are_listed(api: Api) -> None:
    """The list names every product, and what it calls its tenants."""
    page = await api.get("/v1/profiles")
    assert [item["name"] for item in page["items"]] == list(PROFILES)
    assert page["next"] is None


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_product_shows_all_that_its_form_needs(api: Api, profile: str) -> None:
    """Fields, ways to authenticate, events, limits and words are there: no client needs code for a product."""
    shown = await api.get(f"/v1/profiles/{profile}")
    known = PROFILES[profile]
    assert [field["name"] for field in shown["form"]] == [field.name for field in known.form]
    assert [scheme["type"] for scheme in shown["auth"]] == [scheme.name for scheme in known.schemes]
    listed = [kind["name"] for component in shown["events"]["components"] for kind in component["types"]]
    assert listed == list(known.catalogue.by_name)
    kinds = [kind for component in shown["events"]["components"] for kind in component["types"]]
    assert {kind["name"]: kind["data"] for kind in kinds} == {
        name: known.catalogue.schema(name) for name in known.catalogue.by_name
    }
    assert shown["limits"]["webhooks"] == known.max_webhooks
    assert shown["least_role"] == known.least_role
    assert shown["messages"]["events"] == known.refusals.events


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_products_examples_can_be_sent(api: Api, profile: str) -> None:
    """Each example that a profile shows is an event that its tenants may send as it is, however strict they are."""
    await api.tenant(profile, validation="enforce")
    shown = await api.get(f"/v1/profiles/{profile}")
    kinds = [kind for component in shown["events"]["components"] for kind in component["types"]]
    sent: list[dict[str, Any]] = [one["example"] for one in kinds + shown["events"]["examples"] if one["example"]]
    assert len(sent) == len(examples(profile)) > 0
    await api.post("/v1/tenants/acme/events", {"events": sent}, 202)


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_form_made_of_the_profile_alone_makes_a_webhook(api: Api, profile: str) -> None:
    """Who knows no product, only what its profile says, can make its webhook: the least, and then all that there is."""
    shown = await api.get(f"/v1/profiles/{profile}")
    tenant = {each["field"]: _fitting(each["field"]) for each in shown["preconditions"]}
    webhooks = await api.tenant(profile, **tenant)
    least = await api.post(webhooks, _filled(shown, lambda field: field["required"]))
    assert least["status"] == "active"
    if shown["limits"]["webhooks"] == 1:
        refused = await api.post(webhooks, _filled(shown, lambda field: field["required"]), 409)
        assert refused["detail"] == shown["messages"]["second"]
        await api.ask("DELETE", f"{webhooks}/{least['id']}", status=204)
    everything = await api.post(webhooks, _filled(shown, lambda field: field["kind"] != "pem"))
    assert (everything["rate"], everything["max_in_flight"], everything["headers"]) == (7.0, 7, {"X-A": "***"})
    types = {field["auth_type"] for field in shown["form"]} - {None}
    assert everything["auth"]["type"] in (types or {shown["auth"][0]["type"]})


def _fitting(field: str) -> Any:
    """What a tenant needs: the sentence for people says it, the number or the plan is the operator's to know."""
    return {"programs": 1, "plan": "business"}[field]


def _filled(shown: Any, wanted: Any) -> dict[str, Any]:
    """The form as a page would send it."""
    body: dict[str, Any] = {}
    for field in filter(wanted, shown["form"] + shown["options"]):
        place, _, name = field["name"].rpartition(".")
        held = body.setdefault(place, {}) if place else body
        held |= _value(shown, field, name)
    return body


def _value(shown: Any, field: Any, name: str) -> dict[str, Any]:
    kind, events = field["kind"], shown["events"]
    if kind == "events" and events["components"]:
        return {"components": [events["components"][0]["name"]]}
    if kind == "secret" and next(one["generated"] for one in shown["auth"] if one["type"] == field["auth_type"]):
        return {}
    values = {"url": URL, "number": 7, "integer": 7, "headers": {"X-A": "a"}, "expression": "data"}
    values["events"] = [one["name"] for one in events["examples"]]
    return {name: values.get(kind, "a text of ours")}


def test_every_field_of_a_webhook_is_in_the_forms() -> None:
    """What the API takes can be filled in, and what can be filled in it takes."""
    patch = set(WebhookPatch.model_fields) - {"active", "components", "auth", "client_certificate"}
    for profile in PROFILES.values():
        named = {field.name for field in (*form_of(profile), *options_of(profile))}
        plain = {name for name in named if "." not in name}
        left_out = {"name", "events", "projection"} - plain
        assert plain | left_out == patch
        assert {name.partition(".")[2] for name in named if name.startswith("client_certificate.")} == set(
            CertificateForm.model_fields
        )
        assert {name.partition(".")[2] for name in named if name.startswith("auth.")} == {
            one.name for scheme in profile.schemes for one in scheme.fields
        }


async def test_an_unknown_product_is_404(api: Api) -> None:
    """There is no profile that is not in the list."""
    await api.get("/v1/profiles/nobody", 404)
