"""Where the parts of a JSON text lie, so that an event's `data` can be passed on exactly as its producer wrote it.

Everything here takes text that a strict parser has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any

Span = tuple[int, int]

_SPACES = " \t\n\r"
_SPACE = re.compile(f"[{_SPACES}]+")
_scan = JSONDecoder(parse_int=str, parse_float=str).raw_decode


def members(text: str, at: int = 0) -> tuple[dict[str, Span], int]:
    """Where each value of the object at `at` lies (of repeated names the last one), and where the object ends.

    Raises `RecursionError` for what is nested too deeply.
    """
    spans: dict[str, Span] = {}
    at = _skip(text, _skip(text, at) + 1)
    while text[at] != "}":
        name, at = _value(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _value(text, start)
        spans[name] = (start, end)
        at = _next(text, end)
    return spans, at + 1


def objects(text: str, at: int) -> list[dict[str, Span]]:
    """`members` of each object in the array at `at`; none for an element that is no object."""
    found = []
    at = _skip(text, _skip(text, at) + 1)
    while text[at] != "]":
        if text[at] == "{":
            spans, end = members(text, at)
        else:
            spans, end = {}, _value(text, at)[1]
        found.append(spans)
        at = _next(text, end)
    return found


def elements(text: str, at: int = 0) -> Iterator[Span]:
    """Where each element of the array at `at` lies."""
    at = _skip(text, _skip(text, at) + 1)
    while text[at] != "]":
        _, end = _value(text, at)
        yield at, end
        at = _next(text, end)


def _value(text: str, at: int) -> tuple[Any, int]:
    return _scan(text, at)


def _skip(text: str, at: int) -> int:
    return at if text[at] not in _SPACES else _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _next(text: str, at: int) -> int:
    """Past the comma, if there is one."""
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at
