from __future__ import annotations

from typing import Any

import pytest

from pipeline.profiles import PROFILES, examples
from tests.api.conftest import Api


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
    assert shown["limits"]["webhooks"] == known.max_webhooks
    assert shown["least_role"] == known.least_role
    assert shown["messages"]["events"] == known.refusals.events


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_products_examples_can_be_sent(api: Api, profile: str) -> None:
    """Each example that a profile shows is an event that its tenants may send as it is."""
    await api.tenant(profile)
    shown = await api.get(f"/v1/profiles/{profile}")
    kinds = [kind for component in shown["events"]["components"] for kind in component["types"]]
    sent: list[dict[str, Any]] = [one["example"] for one in kinds + shown["events"]["examples"] if one["example"]]
    assert len(sent) == len(examples(profile)) > 0
    await api.post("/v1/tenants/acme/events", {"events": sent}, 202)


async def test_an_unknown_product_is_404(api: Api) -> None:
    """There is no profile that is not in the list."""
    await api.get("/v1/profiles/nobody", 404)
