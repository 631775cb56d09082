"""Why a webhook did not get an event, judged by the records as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.flow.subscription import Subscription, Tenant


class Why(StrEnum):
    """The whole vocabulary. Words that stay: clients compare them."""

    DELIVERY = "delivery"
    """It got the event, or will: there is a delivery."""
    REFUSED = "refused"
    """The product does not know the event: it is a dead letter."""
    TENANT_LATER = "tenant_later"
    CREATED_LATER = "created_later"
    TYPE = "type"
    FILTER = "filter"
    INACTIVE = "inactive"
    SUSPENDED = "suspended"
    DISABLED = "disabled"
    CHANGED = "changed"
    """It would get it now, and was changed after the event."""
    UNKNOWN = "unknown"
    """It would get it now, and nothing says why it did not: it may still be on its way."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A webhook as it is now, beside one event.

    `wants` says whether it has chosen the event's type, `passes` whether its filter on content lets the event through
    (True without one, None where that is not known). `unmet` is the product's sentence on the tenant's precondition
    that does not hold; `disabled` why failures have switched it off.
    """

    webhook: Subscription
    wants: bool
    passes: bool | None = True
    unmet: str | None = None
    disabled: str | None = None


def why_not(standing: Standing, tenant: Tenant, event_ms: int) -> tuple[Why, str]:
    """Why there is no delivery of an event that came at `event_ms`: the reason, and a sentence that says it."""
    return _then(standing.webhook, tenant, event_ms) or _now(standing) or _nothing(standing, event_ms)


def _then(webhook: Subscription, tenant: Tenant, event_ms: int) -> tuple[Why, str] | None:
    if tenant.created_ms > event_ms:
        return Why.TENANT_LATER, "There was no such tenant when the event came."
    if webhook.created_ms > event_ms:
        return Why.CREATED_LATER, "The webhook was made after the event came."
    return None


def _now(standing: Standing) -> tuple[Why, str] | None:
    if not standing.wants:
        return Why.TYPE, "The webhook has not chosen events of this type."
    if standing.passes is False:
        return Why.FILTER, "The webhook's filter does not let this event through."
    if not standing.webhook.active:
        return Why.INACTIVE, "The webhook is switched off."
    if standing.unmet is not None:
        return Why.SUSPENDED, f"The webhook is suspended: {standing.unmet}"
    if standing.disabled is not None:
        return Why.DISABLED, f"The webhook was disabled by the failures of its endpoint ({standing.disabled})."
    return None


def _nothing(standing: Standing, event_ms: int) -> tuple[Why, str]:
    if standing.webhook.updated_ms > event_ms:
        return Why.CHANGED, "It would get the event now; it was changed after the event came, and may have been off."
    return Why.UNKNOWN, "It would get the event now: the event may not have been routed yet."
