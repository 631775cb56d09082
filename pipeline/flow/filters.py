"""Filters and projections: which events' content a webhook wants, and what of it. JMESPath over the whole event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pipeline.flow.event import Event
from pipeline.flow.expressions import Evaluation, Expression, Fault, compiled
from pipeline.flow.subscription import Subscription
from pipeline.flow.times import iso_milliseconds

MAX_STEPS = 100_000
"""Of all webhooks of a tenant together, for one event."""
MAX_RESULT = 1_048_576
"""Bytes of a projection's result, about: as much as an event can carry."""

_VALUE = 4
"""What a value costs besides its characters."""
_BYTES_A_STEP = 64


@dataclass(frozen=True, slots=True)
class Content:
    """A webhook's filter and projection, compiled; a `Fault` where the record's cannot be used."""

    filter: Expression | Fault | None = None
    projection: Expression | Fault | None = None

    @property
    def fault(self) -> str | None:
        """Why nothing can be told of what the webhook wants; None where all is well."""
        for name, made in (("filter", self.filter), ("projection", self.projection)):
            if isinstance(made, Fault):
                return f"its {name}: {made}"
        return None


@dataclass(frozen=True, slots=True)
class Undecided:
    """Whether the webhook wants the event is not known, and why."""

    reason: str


def content(webhook: Subscription) -> Content | None:
    """Of a webhook; None where it has neither filter nor projection."""
    if webhook.filter is None and webhook.projection is None:
        return None
    return Content(*(None if text is None else compiled(text) for text in (webhook.filter, webhook.projection)))


def document(event: Event) -> dict[str, Any]:
    """What an expression sees: `{id, type, time, data, actor, subject, source}`, the time as RFC 3339 in UTC.

    Raises `orjson.JSONDecodeError` where the event's data is not JSON.
    """
    return {
        "id": event.id,
        "type": event.type,
        "time": iso_milliseconds(event.time_ms),
        "data": orjson.loads(event.data),
        "actor": event.actor,
        "subject": event.subject,
        "source": event.source,
    }


@dataclass(slots=True)
class Sight:
    """One event as its tenant's webhooks see it. It is parsed once, when the first one asks."""

    event: Event
    _document: dict[str, Any] | None = None
    _left: int = field(default=MAX_STEPS)

    def through(self, webhook: Content) -> Event | Undecided | None:
        """The event as the webhook gets it; None if it does not want it. An error is no match, or projects to null."""
        if fault := webhook.fault:
            return Undecided(fault)
        if self._left <= 0:
            return Undecided(f"the tenant's filters take more than {MAX_STEPS} steps for this event")
        if isinstance(webhook.filter, Expression) and not self.evaluate(webhook.filter).true:
            return None
        if not isinstance(webhook.projection, Expression):
            return self.event
        data, _ = projected(self.evaluate(webhook.projection))
        self._left -= len(data) // _BYTES_A_STEP
        return replace(self.event, data=data)

    def evaluate(self, expression: Expression) -> Evaluation:
        """What comes of it for this event."""
        if self._document is None:
            self._document = document(self.event)
        made = expression.evaluate(self._document)
        self._left -= made.steps
        return made


def projected(made: Evaluation) -> tuple[str, str | None]:
    """The result as JSON text; or `null`, and the error."""
    if made.error is not None:
        return "null", made.error
    if not _fits(made.result):
        return "null", f"the result has more than {MAX_RESULT} bytes"
    try:
        return orjson.dumps(made.result).decode(), None
    except orjson.JSONEncodeError as error:
        return "null", f"the result is no JSON: {error}"


def _fits(result: Any) -> bool:
    """Counted before it is written: an expression may hold the same list many times over, at no cost."""
    waiting, left = [result], MAX_RESULT
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | dict):
            left -= _VALUE * len(value)
        left -= len(value) if isinstance(value, str) else sum(map(len, value)) if isinstance(value, dict) else 0
        if left < 0:
            return False
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return True
