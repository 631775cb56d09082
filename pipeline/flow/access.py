"""Who may use the REST API: keys, and the roles that they give."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the REST API: `prefix_id_secret`, of which only the SHA-256 of the secret is kept.

    `tenant` is whose it is and all that it reaches; None for the platform's own. Times are milliseconds since the
    epoch; a key that has been revoked opens nothing any more.
    """

    id: str
    prefix: str
    hash: bytes
    role: Role
    tenant: str | None = None
    name: str | None = None
    created_ms: int = 0
    revoked_ms: int | None = None
