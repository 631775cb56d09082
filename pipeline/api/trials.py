"""Tests of a webhook's configuration: an example of the catalogue's, sent exactly as a delivery would be.

Nothing of it goes through Kafka but the outcome, which the webhook's state tells after three failures in a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.drafts import Owner, opened
from pipeline.api.findings import Finding, Found, found, is_final
from pipeline.api.ids import base62
from pipeline.api.lists import Strict
from pipeline.api.problems import FieldError, Refusal, invalid
from pipeline.api.progress import TrialOut, attempt_out, streamed, wants_stream
from pipeline.api.roles import Principal
from pipeline.api.trying import Trial, Tried
from pipeline.errors import Unreachable
from pipeline.flow.deliver import Delivery, Origin, OutgoingRequest, delivery_id
from pipeline.flow.event import Event
from pipeline.flow.filters import Sight, Undecided, content
from pipeline.flow.subscription import Subscription
from pipeline.flow.trials import TRIES, WebhookTest
from pipeline.profiles import Example, Prepared, Profile, examples

TEST_HEADER = (("webhook-test", "true"),)
"""What tells a test from a delivery."""
_MADE_UP = '{"test":true}'
"""The data where a product takes any type, and the catalogue has no example of the one that is wanted."""
_NOWHERE = Origin("", 0, 0, 0)
_log = structlog.get_logger()


class TrialForm(Strict):
    """Which example is sent."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="The event's type; the first that the webhook wants, when it is missing."
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """A webhook whose configuration is tested: how its requests are made, and the one that is sent."""

    held: Subscription
    profile: Profile
    prepared: Prepared
    delivery: Delivery

    def request(self, time_ms: int) -> OutgoingRequest:
        """The request, stamped and signed for this time."""
        return self.prepared.request(self.delivery, time_ms // 1000, TEST_HEADER)


async def run(
    tenant: str, webhook: str, request: Request, who: PrincipalOf, deps: DepsOf, *, body: TrialForm | None = None
) -> TrialOut | Response:
    """Test the configuration: send an example to the endpoint, and say what came of it and what to do.

    It is tried up to three times, with pauses of 2 and 4 seconds; a webhook that is switched off is tested all the
    same. Asked for as `text/event-stream`, each step is told as it comes.
    """
    subject = _subject(deps, tenant, webhook, body.type if body else None)

    async def end(tried: Sequence[Tried]) -> TrialOut:
        result = found(subject.profile, tried[-1].outcome)
        return _out(subject, tried, result, recorded=await _record(deps, who, subject.held, tried, result))

    running = deps.trials.begin(Trial(tenant, subject.request, subject.profile.judge, end))
    return streamed(running) if wants_stream(request) else await running.result()


def _subject(deps: Deps, tenant: str, webhook: str, asked: str | None) -> Subject:
    """Raises `Refusal`: 404, 409 when the product suspends the tenant's webhooks, 422 for a type that it has not."""
    owner = Owner.of(deps, tenant)
    held = deps.webhook(tenant, webhook)
    owner.require_preconditions()
    if asked is not None and not owner.profile.catalogue.knows(asked):
        raise invalid([FieldError("/type", "type", f"type {asked!r} is no event of {owner.profile.title}")])
    now, draft = deps.clock(), opened(held, owner)
    secrets, headers = draft.secrets.at(now).in_force(), tuple(draft.headers.items())
    prepared = owner.profile.prepare(draft.url, draft.auth_type, secrets, headers, draft.client_certificate)
    return Subject(held, owner.profile, prepared, _delivery(owner, held, example_for(owner.profile, held, asked), now))


def example_for(profile: Profile, held: Subscription, asked: str | None = None) -> Example:
    """The example of the type that is asked for; else the first that the webhook wants, in the catalogue's order."""
    known = {one.type: one for one in examples(profile.name)}
    wants = profile.compile_matcher(held)
    exact = [name for name in held.events if profile.catalogue.pattern and not name.endswith("*")]
    wanted = [name for name in (*profile.catalogue.by_name, *known) if wants(name)]
    name = asked or next(iter([*wanted, *exact, *known]))
    return known.get(name) or Example(profile.name, name, _MADE_UP)


def _delivery(owner: Owner, held: Subscription, example: Example, now_ms: int) -> Delivery:
    """As the router would make it of an event that says this now."""
    event = example.event(held.tenant, "test_" + base62(22), now_ms)
    number = delivery_id(event, held.webhook, hashlib.sha256(event.data.encode()).digest())
    body = owner.profile.body(_seen(event, held), owner.tenant, number)
    return Delivery(number, held.tenant, held.webhook, event.id, event.type, None, now_ms, body, 1, _NOWHERE)


def _seen(event: Event, held: Subscription) -> Event:
    """As the webhook gets it. Its filter is not asked: the example is sent for the sake of the way, not of its content.

    Raises `Refusal` (409) for a projection that this version cannot use: nothing is delivered then either.
    """
    projection = content(replace(held, filter=None))
    seen = None if projection is None else Sight(event).through(projection)
    if isinstance(seen, Undecided):
        raise Refusal(HTTPStatus.CONFLICT, f"The webhook cannot be sent to: {seen.reason}.")
    return seen or event


async def _record(deps: Deps, who: Principal, held: Subscription, tried: Sequence[Tried], result: Found) -> bool:
    """Have the webhook's state tell it; False where the webhook is another by now, or Kafka does not take it."""
    try:
        async with deps.control.hold(held.tenant):
            current = deps.directory.webhook(held.tenant, held.webhook)
            if current is None or (current.generation, current.created_ms) != (held.generation, held.created_ms):
                return False
            test = _outcome(deps.directory.test(held.path), held, tried, result, deps.clock())
            await deps.write(who, held.tenant, held.webhook, test, detail=result.finding)
    except Unreachable as error:  # what was found out is told all the same
        _log.warning("the outcome of a test is not recorded", webhook=held.path, reason=str(error))
        return False
    return True


def _outcome(
    before: WebhookTest | None, held: Subscription, tried: Sequence[Tried], result: Found, now_ms: int
) -> WebhookTest:
    """The record. What a repeat could not change counts as if it had been repeated."""
    failed = 0
    if result.finding is not Finding.SUCCESS:
        earlier = before.failed_in_a_row if before and before.generation == held.generation else 0
        failed = earlier + (TRIES if is_final(tried[-1].verdict) else len(tried))
    return WebhookTest(held.tenant, held.webhook, result.finding, result.advice, failed, now_ms, held.generation)


def _out(subject: Subject, tried: Sequence[Tried], result: Found, *, recorded: bool) -> TrialOut:
    return TrialOut(
        outcome=result.finding,
        reason=result.reason,
        advice=result.advice,
        recorded=recorded,
        type=subject.delivery.type,
        webhook_id=subject.delivery.id,
        body=subject.delivery.body.decode(),
        attempts=[attempt_out(one) for one in tried],
    )
