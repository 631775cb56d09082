"""What is sent as an event, turned into one of its tenant's, or refused: what it must be, field by field."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from pydantic import Field, StringConstraints, ValidationError

from pipeline.api import raw, validation
from pipeline.api.lists import Strict
from pipeline.api.problems import UNREADABLE, FieldError, Refusal, field_error, invalid
from pipeline.flow.event import DATA_BYTES, Event, fault
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES

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


@dataclass(frozen=True, slots=True)
class Judged:
    """An event that can be stored. `warnings` say what the catalogue would have had otherwise."""

    event: Event
    warnings: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns what was sent into events of one tenant, or says why not. `now_ms` is the time of events that name none."""

    tenant: Tenant
    now_ms: int

    def __call__(self, given: Any, data: str | None, at: str) -> Judged:
        """The event. `at` is the JSON pointer of what was sent, `data` its data as written. Raises `Refusal`."""
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
        profile = PROFILES[self.tenant.profile]
        if refused := profile.refusal(event):
            raise _invalid(at, *refused)
        return Judged(event, self._unlike(event.type, form.data, at))

    def _unlike(self, event_type: str, data: Any, at: str) -> tuple[FieldError, ...]:
        """What is not as the catalogue says, where the tenant wants to know."""
        if self.tenant.validation not in {"warn", "enforce"}:
            return ()
        found = validation.faults(PROFILES[self.tenant.profile], event_type, data, f"{at}/data")
        if found and self.tenant.validation == "enforce":
            raise invalid(found)
        return tuple(found)

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


def read_object(body: bytes, otherwise: str) -> tuple[str, dict[str, Any]]:
    """The body as text and as an object; `otherwise` says what to send. Raises `Refusal` (400, 422)."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{UNREADABLE}: {error}") from error
    if not isinstance(given, dict):
        raise invalid([FieldError("", "object", otherwise)])
    return body.decode(), given


def too_deep() -> Refusal:
    """400, for what a parser can read and we cannot take apart."""
    return Refusal(HTTPStatus.BAD_REQUEST, f"{UNREADABLE}: it is nested too deeply")


def written_data(text: str, spans: dict[str, raw.Span]) -> str | None:
    """The event's data as it was written; None where there is none."""
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
