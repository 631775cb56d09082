"""What a filter and a projection make of an event: tried, without storing or sending anything."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, Field, ValidationError

from pipeline.api import raw
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.forms import Jmespath, unusable
from pipeline.api.judging import EventIn, Judge, read_object, too_deep, written_data
from pipeline.api.lists import Strict
from pipeline.api.problems import field_error, invalid
from pipeline.flow.event import Event
from pipeline.flow.expressions import Expression, Fault, compiled
from pipeline.flow.filters import Sight, projected
from pipeline.profiles import PROFILES

_SHAPE = "Send an object: {filter?, projection?, event}"


class FilterTest(Strict):
    """What to try. Of a webhook its own are tried where none is given."""

    filter: Jmespath | None = None
    projection: Jmespath | None = None
    event: EventIn


class FilterTested(BaseModel):
    """What came of it. An error is no match, and projects to null."""

    matches: bool = Field(description="Whether the event gets through the filter; it does where there is none.")
    result: Any = Field(description="What the filter's expression comes to.")
    error: str | None = Field(description="Why it comes to nothing.")
    projected: Any = Field(description="What would be the body's `data`: the projection's result; else the event's.")
    projection_error: str | None = Field(description="Why the projection comes to null.")


async def test(tenant: str, request: Request, deps: DepsOf) -> FilterTested:
    """Try a filter and a projection on an event."""
    return _tested(tenant, await request.body(), deps, {})


async def test_webhook(tenant: str, webhook: str, request: Request, deps: DepsOf) -> FilterTested:
    """Try a webhook's filter and projection, or others, on an event. Whether it wants the type is another matter."""
    held = deps.webhook(tenant, webhook)
    return _tested(tenant, await request.body(), deps, {"filter": held.filter, "projection": held.projection})


def _tested(tenant: str, body: bytes, deps: Deps, own: dict[str, str | None]) -> FilterTested:
    given, event = _read(tenant, body, deps)
    texts = {name: given.get(name, own.get(name)) for name in ("filter", "projection")}
    sight = Sight(event)
    matches, result, error = _filtered(sight, texts["filter"])
    data, wrong = _projected(sight, texts["projection"])
    return FilterTested(matches=matches, result=result, error=error, projected=data, projection_error=wrong)


def _read(tenant: str, body: bytes, deps: Deps) -> tuple[dict[str, Any], Event]:
    """What was sent, and its event, judged as one that comes in is. Raises `Refusal`."""
    owner = deps.tenant(tenant)
    text, given = read_object(body, _SHAPE)
    try:
        spans = raw.members(text)[0]
        inner: dict[str, raw.Span] = {}
        if isinstance(given.get("event"), dict):
            inner, _ = raw.members(text, spans["event"][0])
    except RecursionError as error:
        raise too_deep() from error
    try:
        FilterTest.model_validate(given)
    except ValidationError as error:
        raise invalid([field_error(one["loc"], one) for one in error.errors()]) from error
    if errors := unusable(given.get("filter"), given.get("projection"), PROFILES[owner.profile]):
        raise invalid(errors)
    return given, Judge(owner, deps.clock())(given["event"], written_data(text, inner), "/event").event


def _filtered(sight: Sight, text: str | None) -> tuple[bool, Any, str | None]:
    if text is None:
        return True, None, None
    made = compiled(text)
    if isinstance(made, Fault):  # a record of another version's
        return False, None, str(made)
    evaluation = sight.evaluate(made)
    shown, unwritable = projected(evaluation)
    return evaluation.true, orjson.loads(shown), unwritable


def _projected(sight: Sight, text: str | None) -> tuple[Any, str | None]:
    made = None if text is None else compiled(text)
    match made:
        case Expression():
            shown, wrong = projected(sight.evaluate(made))
            return orjson.loads(shown), wrong
        case Fault():
            return None, str(made)
    return orjson.loads(sight.event.data), None


def body_schema() -> dict[str, Any]:
    """The request body for the OpenAPI document: it is read by hand, as an event is."""
    schema = FilterTest.model_json_schema()
    inner = schema.pop("$defs")["EventIn"]
    schema["properties"] = {**schema["properties"], "event": inner}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
