"""Who may do what: roles, and which of them each one includes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a key may do. Within a tenant each includes the ones after it; `ingest` posts events and nothing else."""

    PLATFORM_ADMIN = "platform_admin"
    OWNER = "owner"
    ADMIN = "admin"
    MANAGER = "manager"
    VIEWER = "viewer"
    INGEST = "ingest"


_DESCENDING = (Role.PLATFORM_ADMIN, Role.OWNER, Role.ADMIN, Role.MANAGER, Role.VIEWER)
INCLUDES: Mapping[Role, frozenset[Role]] = {
    **{role: frozenset(_DESCENDING[place:]) for place, role in enumerate(_DESCENDING)},
    Role.PLATFORM_ADMIN: frozenset(Role),
    Role.INGEST: frozenset({Role.INGEST}),
}
"""An operation whose least role is among those that a key's role includes may be done with that key."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose key a request came with."""

    key: str
    role: Role
