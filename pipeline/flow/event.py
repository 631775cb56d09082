"""A domain event: what a product says has happened."""

from __future__ import annotations

import re
from dataclasses import dataclass

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Ids of tenants and webhooks."""

EVENT_ID_BYTES = 128
"""An event's id may be any text of up to this many bytes of UTF-8."""

TYPE_CHARACTERS = 1_024
"""An event's type has at most so many characters."""

DATA_BYTES = 262_144
"""`data` of an event that comes in over REST, in bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a tenant.

    `time_ms` is milliseconds since the epoch; `data` is JSON text, kept as its producer wrote it, so that numbers and
    the order of keys reach the endpoint unchanged.
    """

    id: str
    tenant: str
    type: str
    time_ms: int
    data: str
    actor: str | None = None
    subject: str | None = None
    source: str | None = None


def fault(event: Event) -> str | None:
    """What makes an event unusable whatever its product, in words that begin with the field's name; None if fine."""
    if not 0 < len(event.id.encode()) <= EVENT_ID_BYTES:
        return f"id must be a text of 1 to {EVENT_ID_BYTES} bytes"
    if not ID.fullmatch(event.tenant):
        return "tenant must be 1 to 64 letters, digits, _ or -"
    if not 0 < len(event.type) <= TYPE_CHARACTERS:
        return f"type must be a text of 1 to {TYPE_CHARACTERS} characters"
    return None
