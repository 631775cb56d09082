"""Endpoints of one replay alone: a webhook that no list shows, which nothing is routed to but that replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from pipeline.api.deps import Deps
from pipeline.api.drafts import Owner, opened, saved
from pipeline.api.forms import AuthForm, Draft, Url, WebhookIn, filled, judge
from pipeline.api.ids import base62
from pipeline.api.lists import Strict
from pipeline.api.problems import Refusal
from pipeline.api.standing import TargetOut
from pipeline.api.webhooks import gone
from pipeline.flow.replay import OVER, Replay
from pipeline.flow.subscription import Subscription
from pipeline.kafka.changes import Change
from pipeline.ports import Subscribers, Tenancy
from pipeline.store.secrets import Unreadable

KEPT_MS = 7 * 24 * 3_600_000
"""How long after its replay has ended such an endpoint stays: what waits for its next attempt is sent to it."""

_EVERYTHING = ["*"]


class TargetForm(Strict):
    """An endpoint for this replay alone. It is guarded as any webhook's is."""

    url: Url = Field(examples=["https://example.com/webhooks"])
    auth: AuthForm | None = Field(default=None, description="A secret that is needed and missing is generated.")


@dataclass(frozen=True, slots=True)
class Made:
    """The endpoint's record, and the secrets that were generated for it."""

    held: Subscription
    generated: Mapping[str, str]


def made(deps: Deps, owner: Owner, form: TargetForm, replay: str) -> Made:
    """The endpoint of the replay of that id. Raises `Refusal` (422), naming fields as `/target/…`."""
    given: dict[str, Any] = {"url": form.url, "name": f"Replay {replay}"}
    if owner.profile.chooses_events:
        given["events"] = _EVERYTHING
    if "auth" in form.model_fields_set:
        given["auth"] = form.auth
    with _of_this_form():
        draft = filled(Draft(), WebhookIn(**given), owner.profile, deps.random)
        judge(draft, owner.profile, deps.policy)
    held = saved(draft, None, owner, "wh_" + base62(22), deps.clock())
    return Made(replace(held, replay=replay), draft.generated)


@dataclass(frozen=True, slots=True)
class Alone:
    """The subscribers (`ports.Subscribers`), as if the tenant had this one webhook, and it wanted everything."""

    every: Subscribers
    webhook: str

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""
        return self.every.offset

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant; None if there is no such tenant."""
        found = self.every.of(tenant)
        only = (self.webhook,)
        return None if found is None else replace(found, wanting=lambda _type: only, unreadable=(), contents={})


def with_target(every: Subscribers, order: Replay) -> Subscribers:
    """Who wants what, as it is for this replay: its own endpoint need not be there yet."""
    return every if order.target_url is None else Alone(every, order.webhooks[0])


def shown(deps: Deps, order: Replay, generated: Mapping[str, str] | None = None) -> TargetOut | None:
    """The endpoint as clients see it; None where the replay has none of its own."""
    if order.target_url is None or order.tenant is None:
        return None
    held = deps.directory.webhook(order.tenant, order.webhooks[0])
    auth = None if held is None else {"type": held.auth.type, **_masked(deps, held), **(generated or {})}
    return TargetOut(url=order.target_url, webhook=order.webhooks[0], auth=auth)


def _masked(deps: Deps, held: Subscription) -> Mapping[str, str]:
    """Nothing of secrets that cannot be opened: one tenant's must not hide the replays of all others."""
    try:
        owner = Owner.of(deps, held.tenant)
        scheme, values = owner.profile.scheme(held.auth.type), opened(held, owner).secrets.values
    except Unreadable:
        return {}
    return scheme.masked(values) if scheme else {}


def removed(deps: Deps, order: Replay) -> Iterator[Change]:
    """What removes the replay's own endpoint, where it is there still."""
    if order.target_url is None or order.tenant is None:
        return
    if deps.directory.webhook(order.tenant, order.webhooks[0]) is not None:
        yield from gone(deps, f"{order.tenant}/{order.webhooks[0]}")


def swept(deps: Deps, tenant: str | None) -> Iterator[Change]:
    """What removes the endpoints of the tenant's replays that ended long ago."""
    for order in deps.replays.of(tenant) if tenant is not None else ():
        told = deps.replays.progress(order.id) if order.target_url is not None else None
        if told is not None and told.state in OVER and (told.ended_ms or told.time_ms) + KEPT_MS < deps.clock():
            yield from removed(deps, order)


@contextmanager
def _of_this_form() -> Iterator[None]:
    """What is wrong with a webhook's field is of `target` here."""
    try:
        yield
    except Refusal as refusal:
        errors = [replace(error, field=f"/target{error.field}") for error in refusal.errors]
        raise Refusal(refusal.status, str(refusal), errors) from refusal
