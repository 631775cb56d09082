"""Who may configure webhooks, by the product's own rule and in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.profiles import PROFILES
from tests.api.conftest import URL, Api
from tests.api.test_keys import make

TENANT: dict[str, Any] = {"plan": "business", "programs": 1}
CONFIGURING = [("PATCH", ""), ("DELETE", ""), *(("POST", f"/{what}") for what in ("activate", "deactivate"))]
CONFIGURING += [("POST", "/rotate-secret"), ("POST", "/test")]


async def webhook(api: Api, profile: str) -> tuple[str, str]:
    """A tenant of the product; the paths of its webhooks and of one."""
    hooks = await api.tenant(profile, **TENANT)
    choice = {} if profile == "monitorqa" else {"events": ["*"]}
    name = {} if profile == "monitorqa" else {"name": "x"}
    return hooks, f"{hooks}/{(await api.post(hooks, {'url': URL, **choice, **name}))['id']}"


@pytest.mark.authz
@pytest.mark.parametrize("profile", PROFILES)
async def test_who_is_less_is_refused_in_the_product_s_words(api: Api, profile: str) -> None:
    """Below the product's least role nothing of a webhook can be configured, and it can be looked at all the same."""
    hooks, place = await webhook(api, profile)
    below = "viewer" if PROFILES[profile].least_role == "manager" else "manager"
    lesser = api.using((await make(api, below, "acme"))["key"])
    before = await api.get(place)
    for method, path in [("POST", ""), *CONFIGURING]:
        refused = await lesser.ask(method, place + path if path or method != "POST" else hooks, {}, 403)
        assert refused["detail"] == PROFILES[profile].refusals.role
    assert await lesser.get(place) == before


@pytest.mark.authz
@pytest.mark.parametrize("profile", PROFILES)
async def test_who_has_the_least_role_may(api: Api, profile: str) -> None:
    """With the product's least role a webhook is edited, switched and removed."""
    _, place = await webhook(api, profile)
    least = api.using((await make(api, PROFILES[profile].least_role, "acme"))["key"])
    await least.patch(place, {"url": f"{URL}/2"})
    await least.ask("POST", f"{place}/deactivate")
    shown = await api.get(place)
    assert (shown["url"], shown["status"]) == (f"{URL}/2", "inactive")
    await least.ask("DELETE", place, None, 204)
    await api.get(place, 404)


def test_only_bug_bounty_leaves_it_to_managers() -> None:
    """Admins configure, but for bug bounty's business units, whose managers do."""
    assert {name: profile.least_role for name, profile in PROFILES.items() if profile.least_role != "admin"} == {
        "bugbounty": "manager"
    }
