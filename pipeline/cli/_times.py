"""Times as people write them on the command line."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated

import typer

from pipeline.errors import UsageError
from pipeline.flow.retry import span_ms
from pipeline.flow.times import iso_milliseconds

FORMS = "-2h (before now), an ISO 8601 time, or @ and milliseconds"
From = Annotated[str | None, typer.Option("--from", help=f"Made then or later: {FORMS}.", show_default=False)]
To = Annotated[str | None, typer.Option("--to", help="Made before then.", show_default=False)]


def time_ms(text: str, now_s: float | None = None) -> int:
    """Milliseconds since the epoch. Raises `ValueError` or `UsageError` for what is no time."""
    now_ms = int((time.time() if now_s is None else now_s) * 1000)
    match text[:1]:
        case "-":
            return now_ms - span_ms(text[1:])
        case "@":
            return int(text[1:])
        case _:
            return round(dt.datetime.fromisoformat(text).astimezone(dt.UTC).timestamp() * 1000)


def rfc3339(option: str, text: str | None) -> str | None:
    """As the API takes it. Raises `UsageError` naming the option."""
    try:
        return None if text is None else iso_milliseconds(time_ms(text))
    except (ValueError, OverflowError, UsageError) as error:
        raise UsageError(f"{option} {text!r}: write {FORMS}") from error
