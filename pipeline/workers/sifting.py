"""Events told apart by their headers, without being decoded: whose they are, and of which type.

The pipeline's own producer writes `tenant` and `type`, a CloudEvent has `ce_tenant` and `ce_type`. What has neither, or
has what cannot be read, must be decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from pipeline.ports import Record
from pipeline.profiles import Catalogue, Matcher

MARK = "ce_specversion"
"""The header that makes a record a CloudEvent: then no other headers count but its own."""

Names = tuple[bytes | None, bytes | None]
"""Tenant and type, as the headers have them."""


class Fate(Enum):
    """What is done with the events of a tenant and type."""

    SKIP = "skip"
    COUNT = "count"
    """Their number is all that is needed."""
    READ = "read"


@dataclass(slots=True)
class Tally:
    """How many events, the bytes of their records, and the times between which they lie (milliseconds)."""

    events: int
    bytes: int
    oldest_ms: int
    newest_ms: int

    def add(self, other: Tally) -> None:
        """These too."""
        self.events += other.events
        self.bytes += other.bytes
        self.oldest_ms = min(self.oldest_ms, other.oldest_ms)
        self.newest_ms = max(self.newest_ms, other.newest_ms)


@dataclass(slots=True)
class Sifted:
    """What a part of a window has come to.

    `scanned` records were looked at. `read` must be decoded. `unknown` are names that nobody has said the fate of:
    their records are held back until somebody does.
    """

    scanned: int = 0
    counted: dict[Names, Tally] = field(default_factory=dict)
    read: list[Record] = field(default_factory=list)
    unknown: set[Names] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which events a replay is of: a tenant's (None: everybody's), and of these types (none: all; `prefix*` too)."""

    tenant: str | None
    of_type: Matcher

    @classmethod
    def of(cls, tenant: str | None, types: Iterable[str] = ()) -> Sieve:
        """The one of a replay's order."""
        return cls(tenant, Catalogue().matcher(tuple(types) or ("*",)))

    def __call__(self, tenant: str, event_type: str) -> bool:
        """Whether an event passes."""
        return (self.tenant is None or tenant == self.tenant) and self.of_type(event_type)

    def skips(self, record: Record) -> bool:
        """Whether the headers alone say that it does not pass. Where they do not, the decoded event must be asked."""
        found = named(record.headers)
        texts = None if found is None else decoded(found)
        return texts is not None and not self(*texts)


def named(headers: Iterable[tuple[str, bytes | None]]) -> Names | None:
    """Tenant and type as the headers have them; None where they do not tell both."""
    held = dict(headers)
    own = ("ce_tenant", "ce_type") if MARK in held else ("tenant", "type")
    return (held[own[0]], held[own[1]]) if own[0] in held and own[1] in held else None


def is_foreign(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether they are a CloudEvent's."""
    return any(name == MARK for name, _ in headers)


def decoded(names: Names) -> tuple[str, str] | None:
    """As text; None if that cannot be."""
    tenant, event_type = names
    if not tenant or not event_type:
        return None
    try:
        return tenant.decode(), event_type.decode()
    except UnicodeDecodeError:
        return None
