"""The products, with all that a form for their webhooks needs."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, Field

from pipeline.api.fields import FieldOut, form_of, options_of
from pipeline.api.forms import MAX_EVENTS, MAX_IN_FLIGHT, MAX_RATE
from pipeline.api.lists import ListOf
from pipeline.api.problems import not_found
from pipeline.flow.event import DATA_BYTES
from pipeline.flow.expressions import MAX_CHARACTERS
from pipeline.http.headers import MAX_HEADERS
from pipeline.http.url_rules import MAX_URL
from pipeline.profiles import PROFILES, RANDOM_BYTES, Catalogue, EventType, Example, Profile, Scheme, examples


class Summary(BaseModel):
    """A product in a list."""

    name: str
    title: str
    tenant_noun: str


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
    """An event type with the JSON Schema of its data, and an event of it as it would be sent here."""

    name: str
    title: str
    description: str
    data: dict[str, Any] = Field(description="JSON Schema, draft 2020-12.")
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


class FormLimits(BaseModel):
    """How much of what."""

    webhooks: int | None
    url_characters: int = MAX_URL
    headers: int = MAX_HEADERS
    events: int = MAX_EVENTS
    data_bytes: int = DATA_BYTES
    rate: float = MAX_RATE
    max_in_flight: int = MAX_IN_FLIGHT
    filter_characters: int = MAX_CHARACTERS


class HowDelivered(BaseModel):
    """How it is delivered: seconds for one attempt, how many attempts and the waits between them in milliseconds."""

    deadline_s: float
    attempts: int
    waits_ms: list[int]
    max_redirects: int


class ProfileOut(Summary):
    """A product."""

    form: list[FieldOut]
    options: list[FieldOut] = Field(description="What any webhook may have besides.")
    auth: list[SchemeOut]
    events: EventsOut
    preconditions: list[PreconditionOut]
    limits: FormLimits
    delivery: HowDelivered
    https_only: bool
    projection: bool = Field(description="Whether a webhook may choose what of an event's data it gets.")
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
        form=form_of(profile),
        options=options_of(profile),
        auth=[_scheme(scheme) for scheme in profile.schemes],
        events=_events(profile),
        preconditions=[PreconditionOut(field=each.rule, message=each.refusal) for each in profile.preconditions],
        limits=FormLimits(webhooks=profile.max_webhooks),
        delivery=HowDelivered(
            deadline_s=profile.deadline_s,
            attempts=profile.retry.attempts,
            waits_ms=list(profile.retry.waits_ms),
            max_redirects=profile.max_redirects,
        ),
        https_only=profile.https_only,
        projection=profile.projects,
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
    others = [_type(EventType(name, name), catalogue, known) for name in known if name not in catalogue.by_name]
    return EventsOut(
        chooses=profile.chooses_events,
        default=list(profile.default_events),
        open=catalogue.pattern is not None,
        pattern=catalogue.pattern.pattern if catalogue.pattern else None,
        components=[
            ComponentOut(name=one.name, types=[_type(kind, catalogue, known) for kind in one.types])
            for one in catalogue.components
        ],
        examples=others,
    )


def _type(kind: EventType, catalogue: Catalogue, known: dict[str, dict[str, Any]]) -> TypeOut:
    data, example = catalogue.schema(kind.name), known.get(kind.name)
    return TypeOut(name=kind.name, title=kind.title, description=kind.description, data=data, example=example)


def _example(example: Example) -> dict[str, Any]:
    event = {
        "type": example.type,
        "data": orjson.loads(example.data),
        "actor": example.actor,
        "subject": example.subject,
    }
    return {name: value for name, value in event.items() if value is not None}
