"""The products, with all that a form for their webhooks needs."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel

from pipeline.api.forms import MAX_EVENTS, MAX_IN_FLIGHT, MAX_RATE
from pipeline.api.lists import ListOf
from pipeline.api.problems import not_found
from pipeline.flow.event import DATA_BYTES
from pipeline.http.headers import MAX_HEADERS
from pipeline.http.url_rules import MAX_URL
from pipeline.profiles import PROFILES, RANDOM_BYTES, Component, EventType, Example, Profile, Scheme, examples


class Summary(BaseModel):
    """A product in a list."""

    name: str
    title: str
    tenant_noun: str


class FieldOut(BaseModel):
    """A field of the form: `name` is its place in the webhook's JSON, with dots."""

    name: str
    label: str
    kind: str
    required: bool
    help: str
    section: str


class SecretFieldOut(BaseModel):
    """A value that a way to authenticate needs."""

    name: str
    label: str
    required: bool
    secret: bool


class SchemeOut(BaseModel):
    """A way to authenticate. With `generated`, a missing secret is made; with `overlaps`, a rotated one signs along."""

    type: str
    title: str
    fields: list[SecretFieldOut]
    algorithms: list[str]
    generated: bool
    overlaps: bool


class TypeOut(BaseModel):
    """An event type with an event of it, as it would be sent here."""

    name: str
    title: str
    description: str
    example: dict[str, Any] | None


class ComponentOut(BaseModel):
    """Event types that can be chosen as a whole."""

    name: str
    types: list[TypeOut]


class EventsOut(BaseModel):
    """Which events there are. With `open`, any type of the given `pattern` besides those listed."""

    chooses: bool
    default: list[str]
    open: bool
    pattern: str | None
    components: list[ComponentOut]
    examples: list[TypeOut]


class PreconditionOut(BaseModel):
    """What a tenant must be: its deciding field, and what is said when it is not."""

    field: str
    message: str


class Limits(BaseModel):
    """How much of what."""

    webhooks: int | None
    url_characters: int = MAX_URL
    headers: int = MAX_HEADERS
    events: int = MAX_EVENTS
    data_bytes: int = DATA_BYTES
    rate: float = MAX_RATE
    max_in_flight: int = MAX_IN_FLIGHT


class DeliveryOut(BaseModel):
    """How it is delivered: seconds for one attempt, how many attempts and the waits between them in milliseconds."""

    deadline_s: float
    attempts: int
    waits_ms: list[int]
    max_redirects: int


class ProfileOut(Summary):
    """A product."""

    form: list[FieldOut]
    auth: list[SchemeOut]
    events: EventsOut
    preconditions: list[PreconditionOut]
    limits: Limits
    delivery: DeliveryOut
    https_only: bool
    name_required: bool
    least_role: str
    messages: dict[str, str]


async def listed() -> ListOf[Summary]:
    """All products."""
    return ListOf(items=[Summary(name=p.name, title=p.title, tenant_noun=p.tenant_noun) for p in PROFILES.values()])


async def show(profile: str) -> ProfileOut:
    """One product: its form, its events as a tree with examples, its rules and its words when one is broken."""
    found = PROFILES.get(profile)
    if found is None:
        raise not_found("profile")
    return _shown(found)


def _shown(profile: Profile) -> ProfileOut:
    return ProfileOut(
        name=profile.name,
        title=profile.title,
        tenant_noun=profile.tenant_noun,
        form=[
            FieldOut(name=f.name, label=f.label, kind=f.kind, required=f.required, help=f.help, section=f.section)
            for f in profile.form
        ],
        auth=[_scheme(scheme) for scheme in profile.schemes],
        events=_events(profile),
        preconditions=[PreconditionOut(field=each.rule, message=each.refusal) for each in profile.preconditions],
        limits=Limits(webhooks=profile.max_webhooks),
        delivery=DeliveryOut(
            deadline_s=profile.deadline_s,
            attempts=profile.retry.attempts,
            waits_ms=list(profile.retry.waits_ms),
            max_redirects=profile.max_redirects,
        ),
        https_only=profile.https_only,
        name_required=profile.name_required,
        least_role=profile.least_role,
        messages={name: getattr(profile.refusals, name) for name in ("role", "second", "https", "name", "events")},
    )


def _scheme(scheme: Scheme) -> SchemeOut:
    return SchemeOut(
        type=scheme.name,
        title=scheme.title,
        fields=[
            SecretFieldOut(name=f.name, label=f.label, required=f.required, secret=f.secret) for f in scheme.fields
        ],
        algorithms=list(scheme.algorithms),
        generated=bool(scheme.generate(bytes(RANDOM_BYTES))),
        overlaps=scheme.overlaps,
    )


def _events(profile: Profile) -> EventsOut:
    catalogue = profile.catalogue
    known = {example.type: _example(example) for example in examples(profile.name)}
    others = [_type(EventType(name, name), known) for name in known if name not in catalogue.by_name]
    return EventsOut(
        chooses=profile.chooses_events,
        default=list(profile.default_events),
        open=catalogue.pattern is not None,
        pattern=catalogue.pattern.pattern if catalogue.pattern else None,
        components=[_component(component, known) for component in catalogue.components],
        examples=others,
    )


def _component(component: Component, known: dict[str, dict[str, Any]]) -> ComponentOut:
    return ComponentOut(name=component.name, types=[_type(kind, known) for kind in component.types])


def _type(kind: EventType, known: dict[str, dict[str, Any]]) -> TypeOut:
    return TypeOut(name=kind.name, title=kind.title, description=kind.description, example=known.get(kind.name))


def _example(example: Example) -> dict[str, Any]:
    event = {
        "type": example.type,
        "data": orjson.loads(example.data),
        "actor": example.actor,
        "subject": example.subject,
    }
    return {name: value for name, value in event.items() if value is not None}
