"""Who may do what: which roles each role includes, and whose key a request came with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.flow.access import Role

_DESCENDING = (Role.PLATFORM_ADMIN, Role.OWNER, Role.ADMIN, Role.MANAGER, Role.VIEWER)
INCLUDES: Mapping[Role, frozenset[Role]] = {
    **{role: frozenset(_DESCENDING[place:]) for place, role in enumerate(_DESCENDING)},
    Role.PLATFORM_ADMIN: frozenset(Role),
    Role.INGEST: frozenset({Role.INGEST}),
}
"""An operation whose least role is among those that a key's role includes may be done with that key."""

GRANTS: Mapping[Role, frozenset[Role]] = {role: INCLUDES[role] | {Role.INGEST} for role in Role}
"""Which roles a key may give to the keys that are made with it: none above its own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose key a request came with, and the id of the operation that it asks for.

    `key` is the key's id; `tenant` is all that it reaches, None for the platform's.
    """

    key: str
    role: Role
    tenant: str | None = None
    operation: str = ""
