from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.explain import Standing, Why, why_not
from pipeline.flow.subscription import Auth, Subscription, Tenant

EVENT_MS = 1_000
TENANT = Tenant("acme", "Acme", "standard", created_ms=10)
HOOK = Subscription("acme", "wh_1", "https://example.com", ("*",), Auth("none"), created_ms=20, updated_ms=20)
FINE = Standing(HOOK, wants=True)


@pytest.mark.parametrize(
    ("standing", "tenant", "reason"),
    [
        (FINE, TENANT, Why.UNKNOWN),
        (FINE, replace(TENANT, created_ms=1_001), Why.TENANT_LATER),
        (replace(FINE, webhook=replace(HOOK, created_ms=1_001)), TENANT, Why.CREATED_LATER),
        (replace(FINE, wants=False), TENANT, Why.TYPE),
        (replace(FINE, passes=False), TENANT, Why.FILTER),
        (replace(FINE, passes=None), TENANT, Why.UNKNOWN),
        (replace(FINE, webhook=replace(HOOK, active=False)), TENANT, Why.INACTIVE),
        (replace(FINE, unmet="Upgrade your plan."), TENANT, Why.SUSPENDED),
        (replace(FINE, disabled="gone"), TENANT, Why.DISABLED),
        (replace(FINE, webhook=replace(HOOK, updated_ms=1_001)), TENANT, Why.CHANGED),
    ],
)
def test_each_reason(standing: Standing, tenant: Tenant, reason: Why) -> None:
    """Each way not to get an event has a word of its own, and a sentence."""
    found, sentence = why_not(standing, tenant, EVENT_MS)
    assert found is reason
    assert sentence.endswith(".")


def test_what_was_not_there_is_told_first() -> None:
    """A webhook that came later could not get it, whatever it is like now."""
    late = replace(FINE, webhook=replace(HOOK, created_ms=2_000, active=False), wants=False, unmet="No.")
    assert why_not(late, TENANT, EVENT_MS)[0] is Why.CREATED_LATER


def test_the_products_sentence_is_told() -> None:
    """A suspension is told in the product's own words, a disabling with its reason."""
    assert "Upgrade your plan." in why_not(replace(FINE, unmet="Upgrade your plan."), TENANT, EVENT_MS)[1]
    assert "(gone)" in why_not(replace(FINE, disabled="gone"), TENANT, EVENT_MS)[1]
