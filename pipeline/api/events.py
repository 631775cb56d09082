"""Events that come in over REST."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Request
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from starlette.responses import Response

from pipeline.api import raw
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import Strict
from pipeline.api.problems import UNREADABLE, FieldError, Refusal, field_error, invalid, response
from pipeline.errors import PipelineError
from pipeline.flow.event import DATA_BYTES, Event, fault
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES

MAX_BATCH = 1_000

_TOO_LARGE = f"data holds more than {DATA_BYTES} bytes, the most that an event may carry"
Text = Annotated[str, StringConstraints(max_length=1024)]


class EventIn(Strict):
    """An event. Its `data` reaches the endpoint as it is written here, digit by digit."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="The same id again is the same event. Made up when it is missing."
    )
    type: Text = Field(examples=["invoice.paid"])
    time: Text | None = Field(default=None, description="RFC 3339; now, when it is missing.")
    data: Any = Field(description=f"Any JSON, up to {DATA_BYTES} bytes.", examples=[{"id": 7, "amount": 12.5}])
    actor: Text | int | None = Field(default=None, description="Who did it.")
    subject: Text | None = Field(default=None, description="What it was done to.")
    source: Text | None = Field(default=None, description="The service that says so.")


class EventsIn(Strict):
    """A batch."""

    events: list[EventIn] = Field(min_length=1, max_length=MAX_BATCH)


class Accepted(BaseModel):
    """An event that is stored."""

    id: str


class BatchItem(BaseModel):
    """What became of one event of a batch: 202, or why it was refused (413, 422), or 503 when that is not known."""

    id: str | None
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None


class Batch(BaseModel):
    """One item for each event, in their order."""

    items: list[BatchItem]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Turns what was sent into events of one tenant, or says why not. `now_ms` is the time of events that name none."""

    tenant: Tenant
    now_ms: int

    def __call__(self, given: Any, data: str | None, at: str) -> Event:
        """The event. `at` is the JSON pointer of what was sent. Raises `Refusal`."""
        try:
            form = EventIn.model_validate(given)
        except ValidationError as error:
            raise invalid([_placed(at, field_error(one["loc"], one)) for one in error.errors()]) from error
        data = data or "null"
        if len(data.encode()) > DATA_BYTES:
            large = FieldError(f"{at}/data", "max_bytes", _TOO_LARGE)
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, [large])
        event = self._event(form, data, at)
        if words := fault(event):
            raise _invalid(at, "invalid", words)
        if refused := PROFILES[self.tenant.profile].refusal(event):
            raise _invalid(at, *refused)
        return event

    def _event(self, form: EventIn, data: str, at: str) -> Event:
        return Event(
            id=form.id or str(uuid.uuid4()),
            tenant=self.tenant.id,
            type=form.type,
            time_ms=self.now_ms if form.time is None else _time_ms(form.time, at),
            data=data,
            actor=None if form.actor is None else str(form.actor),
            subject=form.subject,
            source=form.source,
        )


async def post(tenant: str, request: Request, deps: DepsOf) -> Response:
    """Send one event, or a batch of up to 1,000 as `{"events": […]}`.

    202 when Kafka has stored them. 207 when some of a batch were refused, and the others stored. 503 means that it is
    not known: send again with the same ids.
    """
    judged = _judged_all(_Judge(deps.tenant(tenant), deps.clock()), await request.body())
    if isinstance(judged, list):
        return await _batch(judged, deps)
    (failure,) = await deps.ingest.publish([judged])
    if failure is not None:
        raise failure
    return _json(HTTPStatus.ACCEPTED, {"id": judged.id})


def _judged_all(judge: _Judge, body: bytes) -> Event | list[Event | dict[str, Any]]:
    """The one event, or those of a batch, with the items of those that are refused. Raises `Refusal`.

    What was parsed is let go of here: it takes many times the body's memory, and Kafka's answer may take seconds.
    """
    text, given = _read(body)
    try:
        spans, _ = raw.members(text)
        if "events" not in given:
            return judge(given, _slice(text, spans), "")
        listed, places = _listed(given), raw.objects(text, spans["events"][0])
        return [
            _judged(judge, one, _slice(text, places_of), f"/events/{number}")
            for number, (one, places_of) in enumerate(zip(listed, places, strict=True))
        ]
    except RecursionError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{UNREADABLE}: it is nested too deeply") from error


def _read(body: bytes) -> tuple[str, dict[str, Any]]:
    """The body as text and as an object. Raises `Refusal` (400, 422)."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{UNREADABLE}: {error}") from error
    if not isinstance(given, dict):
        raise invalid([FieldError("", "object", "Send one event as an object, or several as {events: […]}")])
    return body.decode(), given


def _listed(given: dict[str, Any]) -> list[Any]:
    listed = given["events"]
    if len(given) > 1 or not isinstance(listed, list) or not 0 < len(listed) <= MAX_BATCH:
        raise invalid(
            [FieldError("/events", "batch", f"A batch is a list of 1 to {MAX_BATCH} events, and nothing else")]
        )
    return listed


async def _batch(judged: list[Event | dict[str, Any]], deps: Deps) -> Response:
    events = [one for one in judged if isinstance(one, Event)]
    failures = iter(await deps.ingest.publish(events))
    items = [_item(one, next(failures)) if isinstance(one, Event) else one for one in judged]
    if events and all(item["status"] == HTTPStatus.SERVICE_UNAVAILABLE for item in items):
        return response(HTTPStatus.SERVICE_UNAVAILABLE, str(items[0]["detail"]), headers={"Retry-After": "1"})
    whole = all(item["status"] == HTTPStatus.ACCEPTED for item in items)
    return _json(HTTPStatus.ACCEPTED if whole else HTTPStatus.MULTI_STATUS, {"items": items})


def _judged(judge: _Judge, given: Any, data: str | None, at: str) -> Event | dict[str, Any]:
    try:
        return judge(given, data, at)
    except Refusal as refusal:
        return _refused(refusal, given)


def _item(event: Event, failure: PipelineError | None) -> dict[str, Any]:
    if failure is None:
        return {"id": event.id, "status": HTTPStatus.ACCEPTED}
    return {"id": event.id, "status": HTTPStatus.SERVICE_UNAVAILABLE, "detail": str(failure)}


def _refused(refusal: Refusal, given: Any) -> dict[str, Any]:
    named = given.get("id") if isinstance(given, dict) else None
    errors = [asdict(error) for error in refusal.errors]
    told = {"status": refusal.status, "detail": str(refusal), "errors": errors}
    return {"id": named if isinstance(named, str) else None, **told}


def _slice(text: str, spans: dict[str, raw.Span]) -> str | None:
    place = spans.get("data")
    return None if place is None else text[place[0] : place[1]]


def _invalid(at: str, rule: str, words: str) -> Refusal:
    """The words begin with the field's name."""
    return invalid([FieldError(f"{at}/{words.partition(' ')[0]}", str(rule), words)])


def _placed(at: str, error: FieldError) -> FieldError:
    return FieldError(at + error.field, error.rule, error.message)


def _time_ms(text: str, at: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise invalid([FieldError(f"{at}/time", "time", "A time is written like 2026-01-31T12:00:00Z (RFC 3339)")])
    return round(moment.timestamp() * 1000)


def _json(status: HTTPStatus, body: Any) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def body_schema() -> dict[str, Any]:
    """The request body for the OpenAPI document: it is read by hand, to keep `data` as it is written."""
    one = EventIn.model_json_schema()
    many = {**one, "properties": {"events": {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_BATCH}}}
    many |= {"title": "EventsIn", "description": "A batch.", "required": ["events"]}
    return {"required": True, "content": {"application/json": {"schema": {"oneOf": [one, many]}}}}
