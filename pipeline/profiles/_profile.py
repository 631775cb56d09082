"""What a product's webhooks are: data over shared parts, and the few pure functions that the flow asks of it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import orjson

from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import ClientCertificate, Next, Outcome, Verdict
from pipeline.flow.event import Event
from pipeline.flow.retry import Ladder
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.profiles._body import Renderer
from pipeline.profiles._catalogue import Catalogue, Matcher
from pipeline.profiles._request import OURS, Prepared, without
from pipeline.profiles._retry import RetryRule
from pipeline.profiles._rules import LATEST_MS, Rule
from pipeline.profiles._scheme import Headers, Scheme

ANY_2XX = range(200, 300)
ONLY_WEBHOOK = "default"
"""The id of the webhook where a product allows one: two cannot exist."""


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of the product's webhook form. `name` is its place in the API's webhook (`url`, `auth.secret`)."""

    name: str
    label: str
    kind: Literal[
        "text", "url", "events", "secret", "password", "number", "integer", "headers", "expression", "pem"
    ] = "text"
    required: bool = False
    help: str = ""
    section: str = ""


class Precondition(Protocol):
    """What a tenant must be for its webhooks to exist and to be sent to."""

    @property
    def rule(self) -> str:
        """The tenant's field that decides."""

    @property
    def refusal(self) -> str:
        """The product's own sentence."""

    def holds(self, tenant: Tenant) -> bool: ...


@dataclass(frozen=True, slots=True)
class PlanIn:
    """The tenant's plan is one of these."""

    plans: tuple[str, ...]
    refusal: str
    rule: str = "plan"

    def holds(self, tenant: Tenant) -> bool:
        """Whether the tenant has such a plan."""
        return tenant.plan in self.plans


@dataclass(frozen=True, slots=True)
class ProgramsAtLeast:
    """The tenant has at least this many programs."""

    least: int
    refusal: str
    rule: str = "programs"

    def holds(self, tenant: Tenant) -> bool:
        """Whether the tenant has enough."""
        return tenant.programs >= self.least


@dataclass(frozen=True, slots=True)
class Refusals:
    """The sentences a customer reads when a product's rule forbids something."""

    role: str = "You must be an admin to configure webhooks."
    second: str = "There can be only one webhook."
    https: str = "The URL must be in HTTPS."
    name: str = "A name is required."
    events: str = "Select at least one event."


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A product. Times in seconds; `None` for no limit.

    `body` renders an event for its tenant and the delivery's id, purely. `rules` are what an event must be beyond JSON.
    `schemes` are the ways to authenticate, the default first. `acknowledged` are the statuses that mean delivered.
    `default_events` are the events of a webhook that names none; where there are none, it must name some;
    `chooses_events` says whether it may name any at all. `projects` says whether it may choose what of an event's data
    it gets: where a product's page promises it whole, it may not.
    """

    name: str
    title: str
    tenant_noun: str
    catalogue: Catalogue
    form: tuple[FormField, ...]
    schemes: tuple[Scheme, ...]
    body: Renderer
    retry: RetryRule
    deadline_s: float = 15.0
    acknowledged: Container[int] = ANY_2XX
    rules: tuple[Rule, ...] = ()
    default_events: tuple[str, ...] = ()
    chooses_events: bool = True
    projects: bool = False
    name_required: bool = False
    max_webhooks: int | None = None
    https_only: bool = False
    max_redirects: int = 0
    preconditions: tuple[Precondition, ...] = ()
    least_role: Literal["admin", "manager"] = "admin"
    refusals: Refusals = field(default_factory=Refusals)

    @property
    def webhook_id(self) -> str | None:
        """The id of the webhook where there can be only one, else None."""
        return ONLY_WEBHOOK if self.max_webhooks == 1 else None

    def scheme(self, auth_type: str) -> Scheme | None:
        """The authentication scheme of this name, if the product has it."""
        return next((scheme for scheme in self.schemes if scheme.name == auth_type), None)

    def unmet(self, tenant: Tenant) -> Precondition | None:
        """The first precondition that does not hold for this tenant."""
        return next((condition for condition in self.preconditions if not condition.holds(tenant)), None)

    def refusal(self, event: Event) -> tuple[Reason, str] | None:
        """Why the product cannot send this event, in words that begin with the event's field; None if it can."""
        if not self.catalogue.knows(event.type):
            return Reason.UNKNOWN_TYPE, f"type {event.type!r} is no event of {self.title}"
        if not 0 <= event.time_ms < LATEST_MS:
            return Reason.INVALID, "time must be between the years 1970 and 9999"
        try:
            data = orjson.loads(event.data)
        except orjson.JSONDecodeError as error:
            return Reason.INVALID, f"data is not JSON: {error}"
        found = next((wrong for rule in self.rules if (wrong := rule(event, data))), None)
        return (Reason.INVALID, found) if found else None

    def choice_refusal(self, events: tuple[str, ...], components: tuple[str, ...] = ()) -> str | None:
        """Why a webhook cannot have this choice of events; None if it can."""
        if not self.chooses_events:
            return None if (events, components) in {((), ()), (self.default_events, ())} else self.refusals.events
        if not (events or components or self.default_events):
            return self.refusals.events
        return self.catalogue.refusal(events, components)

    def compile_matcher(self, subscription: Subscription) -> Matcher:
        """Which event types the webhook wants, to be asked often: exact, `prefix*`, `*`, whole components."""
        return self.catalogue.matcher(subscription.events or self._unchosen(subscription), subscription.components)

    def wants(self, subscription: Subscription, event_type: str) -> bool:
        """Whether the webhook wants events of this type."""
        return self.compile_matcher(subscription)(event_type)

    def prepare(
        self,
        url: str,
        auth_type: str,
        secrets: Mapping[str, str],
        headers: Headers = (),
        certificate: ClientCertificate | None = None,
    ) -> Prepared:
        """All of a webhook's requests that does not change from one to the next. `headers` are the customer's own.

        Raises `ValueError` for a scheme or secrets that the product would have refused.
        """
        scheme = self.scheme(auth_type)
        if scheme is None or scheme.refusal(secrets):
            raise ValueError(f"{self.name} cannot authenticate by {auth_type} with these secrets")
        own = without(headers, (*OURS, *scheme.headers))
        sign = scheme.signer(secrets)
        return Prepared(url, sign, own, self.deadline_s, self.max_redirects, self.https_only, certificate)

    def judge(self, outcome: Outcome) -> Verdict:
        """What the attempt came to, by the product's rule of acknowledgement."""
        if outcome.failure is not None:
            return outcome.failure
        if outcome.status in self.acknowledged:
            return Verdict.DELIVERED
        return self.retry.meanings.get(outcome.status or 0, Verdict.REJECTED)

    def next_step(
        self, verdict: Verdict, outcome: Outcome, attempt: int, *, jitter: float, now_ms: int, ladder: Ladder
    ) -> Next:
        """What follows attempt number `attempt`: see `RetryRule.next_step`."""
        return self.retry.next_step(verdict, outcome, attempt, jitter=jitter, now_ms=now_ms, ladder=ladder)

    def _unchosen(self, subscription: Subscription) -> tuple[str, ...]:
        return () if subscription.components else self.default_events
