"""Events that were sent: listed, shown with their deliveries, and why a webhook did or did not get one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import ListOf, WindowOf, cursor
from pipeline.api.log.narrowing import EventFilterOf
from pipeline.api.log.shown import DeliveryOut, EventOut, delivery_out, event_out
from pipeline.api.problems import not_found
from pipeline.errors import Unreachable
from pipeline.flow.event import EVENT_ID_BYTES, Event
from pipeline.flow.explain import Standing, Why, why_not
from pipeline.flow.filters import Sight, Undecided, content
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.profiles import PROFILES, Profile
from pipeline.store.log import DeliveryRow, EventRow

_JUDGED = "The webhooks and the tenant as they are now; they may have been otherwise when the event came."
_GONE = "The data is gone: retention has taken it."
_NO_JSON = "The data is not JSON."
Ident = Annotated[
    str, Path(min_length=1, max_length=EVENT_ID_BYTES, pattern=r"^[^\x00]*$", description="The event's id.")
]


class WebhookWhy(BaseModel):
    """Why one webhook did or did not get the event."""

    webhook: str
    name: str | None
    reason: Why = Field(description="`delivery` when it got it, or will.")
    detail: str
    delivery: DeliveryOut | None
    subscriptions_offset: int | None = Field(
        description="How far the router had read the webhooks when it made the delivery."
    )


class Explanation(BaseModel):
    """Why webhooks did or did not get an event. `items` are webhooks, newest first, a page at a time."""

    event: str
    type: str
    judged_by: str
    items: list[WebhookWhy]
    next: str | None


async def listed(tenant: str, wanted: EventFilterOf, window: WindowOf, deps: DepsOf) -> ListOf[EventOut]:
    """The tenant's events, newest first. What has just come is there a moment later."""
    deps.tenant(tenant)
    page = await deps.log.ask(lambda log: log.events(tenant, wanted, window.after, window.limit))
    return ListOf(items=[event_out(row) for row in page.items], next=cursor(page.next))


async def show(tenant: str, event: Ident, deps: DepsOf) -> Response:
    """One event with its data and its deliveries."""
    row = await _row(deps, tenant, event)
    deliveries = await deps.log.ask(lambda log: log.deliveries_of_event(tenant, event))
    held, note = await _held(deps, row)
    body: dict[str, Any] = event_out(row).model_dump()
    body |= _content(held, note)
    body["deliveries"] = [delivery_out(one).model_dump() for one in deliveries]
    return Response(orjson.dumps(body), HTTPStatus.OK, media_type="application/json")


async def explain(tenant: str, event: Ident, window: WindowOf, deps: DepsOf) -> Explanation:
    """Why each webhook of the tenant did or did not get the event, judged by the records as they are now."""
    owner, row = deps.tenant(tenant), await _row(deps, tenant, event)
    deliveries = await deps.log.ask(lambda log: log.deliveries_of_event(tenant, event))
    held, _ = await _held(deps, row)
    judge = _Judge(owner, PROFILES[owner.profile], row, held)
    page = deps.directory.webhooks(tenant, window.after, window.limit)
    states = await deps.directory.states([webhook.path for webhook in page.items])
    got = {one.webhook: one for one in deliveries}
    items = [
        _got(got[one.webhook], one.name) if one.webhook in got else judge(one, _disabled(states.get(one.path), one))
        for one in page.items
    ]
    if window.after is None:
        items += [_got(one) for one in deliveries if not _is_listed(deps, one)]
    return Explanation(event=row.id, type=row.type, judged_by=_JUDGED, items=items, next=cursor(page.next))


def _is_listed(deps: Deps, delivery: DeliveryRow) -> bool:
    """Whether its webhook is there, and no endpoint of a replay alone."""
    held = deps.directory.webhook(delivery.tenant, delivery.webhook)
    return held is not None and held.replay is None


class _Judge:
    """Says why a webhook did not get one event. Its content is looked into once."""

    def __init__(self, tenant: Tenant, profile: Profile, row: EventRow, event: Event | None) -> None:
        self._tenant, self._profile, self._row, self._event = tenant, profile, row, event
        refusal = profile.refusal(event) if event is not None else None
        self._refused = refusal[1] if refusal else None
        self._sight = Sight(event) if event is not None else None
        unmet = profile.unmet(tenant)
        self._unmet = unmet.refusal if unmet else None

    def __call__(self, webhook: Subscription, disabled: str | None) -> WebhookWhy:
        reason, detail = self._why(webhook, disabled)
        return WebhookWhy(
            webhook=webhook.webhook,
            name=webhook.name,
            reason=reason,
            detail=detail,
            delivery=None,
            subscriptions_offset=None,
        )

    def _why(self, webhook: Subscription, disabled: str | None) -> tuple[Why, str]:
        if self._refused is not None:
            return Why.REFUSED, f"No webhook got the event: {self._refused}."
        wants = self._profile.wants(webhook, self._row.type)
        standing = Standing(webhook, wants, self._passes(webhook), self._unmet, disabled)
        return why_not(standing, self._tenant, self._row.created_ms)

    def _passes(self, webhook: Subscription) -> bool | None:
        made = content(webhook)
        if made is None:
            return True
        seen = Undecided("") if self._sight is None else self._sight.through(made)
        return None if isinstance(seen, Undecided) else seen is not None


def _got(row: DeliveryRow, name: str | None = None) -> WebhookWhy:
    return WebhookWhy(
        webhook=row.webhook,
        name=name,
        reason=Why.DELIVERY,
        detail=f"It wanted the event: its delivery is {row.status}.",
        delivery=delivery_out(row),
        subscriptions_offset=row.subscriptions_offset,
    )


def _disabled(known: Any, webhook: Subscription) -> str | None:
    return known.reason if known is not None and known.disables(webhook.generation) else None


def _content(held: Event | None, note: str | None) -> dict[str, Any]:
    said = {name: held and getattr(held, name) for name in ("actor", "subject", "source")}
    data = None if held is None or note else orjson.Fragment(held.data)
    return {**said, "data": data, "data_note": note}


async def _held(deps: Deps, row: EventRow) -> tuple[Event | None, str | None]:
    """The event with its data as Kafka has it; and why there is no data to show."""
    try:
        found = await deps.records.event((row.partition, row.offset))
    except Unreachable as error:  # what the log has is worth showing
        return None, str(error)
    if found is None or (found[1].tenant, found[1].id) != (row.tenant, row.id):
        return None, _GONE
    try:
        orjson.loads(found[1].data)
    except orjson.JSONDecodeError:
        return found[1], _NO_JSON
    return found[1], None


async def _row(deps: Deps, tenant: str, event: str) -> EventRow:
    """Raises `Refusal` (404)."""
    deps.tenant(tenant)
    row = await deps.log.ask(lambda log: log.event(tenant, event))
    if row is None:
        raise not_found("event")
    return row
