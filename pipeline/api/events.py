"""Events that come in over REST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from pipeline.api import raw
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.judging import EventIn, Judge, Judged, read_object, too_deep, written_data
from pipeline.api.lists import Strict
from pipeline.api.problems import FieldError, FieldProblem, Refusal, invalid, response
from pipeline.errors import PipelineError

MAX_BATCH = 1_000

_SHAPE = "Send one event as an object, or several as {events: […]}"


class EventsIn(Strict):
    """A batch."""

    events: list[EventIn] = Field(min_length=1, max_length=MAX_BATCH)


class Accepted(BaseModel):
    """An event that is stored. `warnings`, where there are some: what is not as the catalogue says."""

    id: str
    warnings: list[FieldProblem] | None = None


class BatchItem(BaseModel):
    """What became of one event of a batch: 202, or why it was refused (413, 422), or 503 when that is not known."""

    id: str | None
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None
    warnings: list[FieldProblem] | None = None


class Batch(BaseModel):
    """One item for each event, in their order."""

    items: list[BatchItem]


async def post(tenant: str, request: Request, deps: DepsOf) -> Response:
    """Send one event, or a batch of up to 1,000 as `{"events": […]}`.

    202 when Kafka has stored them. 207 when some of a batch were refused, and the others stored. 503 means that it is
    not known: send again with the same ids.
    """
    held = deps.tenant(tenant)
    judged = _judged_all(Judge(held, deps.clock()), await request.body())
    deps.quota.take(held, sum(isinstance(one, Judged) for one in (judged if isinstance(judged, list) else [judged])))
    if isinstance(judged, list):
        return await _batch(judged, deps)
    (failure,) = await deps.ingest.publish([judged.event])
    if failure is not None:
        raise failure
    return _json(HTTPStatus.ACCEPTED, {"id": judged.event.id, **_warned(judged)})


def _judged_all(judge: Judge, body: bytes) -> Judged | list[Judged | dict[str, Any]]:
    """The one event, or those of a batch, with the items of those that are refused. Raises `Refusal`.

    What was parsed is let go of here: it takes many times the body's memory, and Kafka's answer may take seconds.
    """
    text, given = read_object(body, _SHAPE)
    try:
        spans, _ = raw.members(text)
        if "events" not in given:
            return judge(given, written_data(text, spans), "")
        listed, places = _listed(given), raw.objects(text, spans["events"][0])
        return [
            _judged(judge, one, written_data(text, places_of), f"/events/{number}")
            for number, (one, places_of) in enumerate(zip(listed, places, strict=True))
        ]
    except RecursionError as error:
        raise too_deep() from error


def _listed(given: dict[str, Any]) -> list[Any]:
    listed = given["events"]
    if len(given) > 1 or not isinstance(listed, list) or not 0 < len(listed) <= MAX_BATCH:
        raise invalid(
            [FieldError("/events", "batch", f"A batch is a list of 1 to {MAX_BATCH} events, and nothing else")]
        )
    return listed


async def _batch(judged: Sequence[Judged | dict[str, Any]], deps: Deps) -> Response:
    events = [one.event for one in judged if isinstance(one, Judged)]
    failures = iter(await deps.ingest.publish(events))
    items = [_item(one, next(failures)) if isinstance(one, Judged) else one for one in judged]
    if events and all(item["status"] == HTTPStatus.SERVICE_UNAVAILABLE for item in items):
        return response(HTTPStatus.SERVICE_UNAVAILABLE, str(items[0]["detail"]), headers={"Retry-After": "1"})
    whole = all(item["status"] == HTTPStatus.ACCEPTED for item in items)
    return _json(HTTPStatus.ACCEPTED if whole else HTTPStatus.MULTI_STATUS, {"items": items})


def _judged(judge: Judge, given: Any, data: str | None, at: str) -> Judged | dict[str, Any]:
    try:
        return judge(given, data, at)
    except Refusal as refusal:
        return _refused(refusal, given)


def _item(judged: Judged, failure: PipelineError | None) -> dict[str, Any]:
    if failure is None:
        return {"id": judged.event.id, "status": HTTPStatus.ACCEPTED, **_warned(judged)}
    return {"id": judged.event.id, "status": HTTPStatus.SERVICE_UNAVAILABLE, "detail": str(failure)}


def _warned(judged: Judged) -> dict[str, Any]:
    return {"warnings": [asdict(warning) for warning in judged.warnings]} if judged.warnings else {}


def _refused(refusal: Refusal, given: Any) -> dict[str, Any]:
    named = given.get("id") if isinstance(given, dict) else None
    errors = [asdict(error) for error in refusal.errors]
    told = {"status": refusal.status, "detail": str(refusal), "errors": errors}
    return {"id": named if isinstance(named, str) else None, **told}


def _json(status: HTTPStatus, body: Any) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def body_schema() -> dict[str, Any]:
    """The request body for the OpenAPI document: it is read by hand, to keep `data` as it is written."""
    one = EventIn.model_json_schema()
    many = {**one, "properties": {"events": {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_BATCH}}}
    many |= {"title": "EventsIn", "description": "A batch.", "required": ["events"]}
    return {"required": True, "content": {"application/json": {"schema": {"oneOf": [one, many]}}}}
