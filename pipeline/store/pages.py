"""Parts of lists: newest first, each part found by the place where the one before it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Place = tuple[int, str]
"""Where a record stands in its list: minus the time of its making, then its id. What follows a place is older."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list; `next` is the place after which it goes on, None at its end."""

    items: tuple[T, ...]
    next: Place | None
