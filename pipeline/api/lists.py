"""What all lists have in common: `{items, next}`, `?limit=`, `?cursor=`, newest first; and how values are written."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.api.problems import FieldError, invalid
from pipeline.store.pages import Place

MAX_LIMIT = 200
MAX_NAME = 200
T = TypeVar("T")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NOWHERE = 2**53
"""Milliseconds: no record has a time like this, and no database need bear it."""


Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Strict(BaseModel):
    """A body: unknown fields are refused, and nothing is taken for another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ListOf(BaseModel, Generic[T]):
    """Part of a list. `next` is the cursor of what follows; null at the end."""

    items: list[T]
    next: str | None = Field(default=None, description="Give it as `cursor` to read on.")


class Window(BaseModel):
    """Which part of a list is asked for."""

    limit: int
    after: Place | None


async def _window(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=256)] = None,
) -> Window:
    return Window(limit=limit, after=None if cursor is None else _place(cursor))


WindowOf = Annotated[Window, Depends(_window)]
"""An operation's parameter: which part of the list."""


def cursor(place: Place | None) -> str | None:
    """The place as the client carries it."""
    return None if place is None else base64.urlsafe_b64encode(f"{-place[0]}:{place[1]}".encode()).decode().rstrip("=")


def _place(text: str) -> Place:
    try:
        created, _, key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        place = -int(created), key
    except ValueError:
        place = _NOWHERE, ""
    if abs(place[0]) >= _NOWHERE or "\0" in place[1]:
        raise invalid([FieldError("/cursor", "cursor", "This is not the cursor of a page")])
    return place


def read_time(text: str, field: str) -> int:
    """Milliseconds since the epoch of a time as RFC 3339 writes it. Raises `Refusal` (422) naming the field."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise invalid([FieldError(field, "time", "A time is written like 2026-01-31T12:00:00Z (RFC 3339)")])
    try:
        return (moment.astimezone(dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)
    except OverflowError as error:  # its offset leads out of the calendar: it could not be written again
        raise invalid([FieldError(field, "time", "A time lies in the years 1 to 9999 (UTC)")]) from error


def written_time(time_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
