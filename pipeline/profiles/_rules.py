"""What an event must be for a product to send it.

Each rule is given the event and its parsed data, and answers what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.flow.event import Event

Rule = Callable[[Event, object], str | None]
"""None, or what is wrong in words that begin with the event's field."""

LATEST_MS = 253_402_300_800_000
"""The year 10000 in milliseconds since the epoch: later times have no ISO 8601 form."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def data_is_object(_event: Event, data: object) -> str | None:
    """For products whose receivers read fields of the data."""
    return None if isinstance(data, dict) else "data must be a JSON object"


def data_is_resource(_event: Event, data: object) -> str | None:
    """Exactly `{resourceId: int, path: string}`: where the receiver calls back for the details."""
    match data:
        case {"resourceId": int() as resource, "path": str(), **rest} if not rest and not isinstance(resource, bool):
            return None
        case _:
            return "data must be {resourceId: integer, path: string} and nothing else"


def actor_is_integer(event: Event, _data: object) -> str | None:
    """The actor goes into the body as a JSON number: who did it, by the product's own number."""
    if event.actor is not None and _INTEGER.fullmatch(event.actor):
        return None
    return "actor must be an integer: the id of the team member who caused the event"
