"""Keys of this API. A tenant's owner makes its own; the platform's admin makes any."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from pipeline.api.auth import PREFIX, PrincipalOf, hashed, require_own
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.ids import base62
from pipeline.api.lists import Id, ListOf, Name, Strict, WindowOf, cursor, written_time
from pipeline.api.problems import FieldError, Refusal, invalid, not_found
from pipeline.api.roles import GRANTS, Principal
from pipeline.flow.access import ApiKey, Role
from pipeline.kafka.changes import PLATFORM

_ID_LENGTH, _SECRET_LENGTH = 12, 43  # digits and letters: 43 hold 256 random bits
RoleName = Literal["platform_admin", "owner", "admin", "manager", "viewer", "ingest"]


class KeyIn(Strict):
    """A new key. `tenant` is all that it reaches: yours, when it is missing; a platform_admin's reaches all."""

    role: RoleName
    tenant: Id | None = Field(default=None, examples=["acme"])
    name: Name | None = Field(default=None, description="What it is for.", examples=["Billing service"])


class KeyOut(BaseModel):
    """A key, without its secret."""

    id: str
    prefix: str = Field(description="What the key begins with.", examples=["whk_4fQ2xT9bLmZa"])
    role: RoleName
    tenant: str | None = Field(description="All that it reaches; null: everything.")
    name: str | None
    created_at: str
    revoked_at: str | None = Field(description="From then on it opens nothing.")


class NewKeyOut(KeyOut):
    """A key that has just been made."""

    key: str = Field(description="The key itself: shown this once, and kept nowhere.")


async def create(body: KeyIn, who: PrincipalOf, deps: DepsOf) -> NewKeyOut:
    """Make a key. It is shown only now. Its role is at most your own."""
    role, tenant = Role(body.role), who.tenant if body.tenant is None else body.tenant
    _require_grant(who, role, tenant)
    secret = base62(_SECRET_LENGTH)
    async with deps.control.hold(tenant or PLATFORM):
        if tenant is not None:
            deps.tenant(tenant)
        made = ApiKey(base62(_ID_LENGTH), PREFIX, hashed(secret), role, tenant, body.name, deps.clock())
        await deps.write(who, tenant, made.id, made, detail=f"role {role}")
    return NewKeyOut(**shown(made).model_dump(), key=f"{PREFIX}_{made.id}_{secret}")


def _require_grant(who: Principal, role: Role, tenant: str | None) -> None:
    """Raise `Refusal` for a key that this one may not make (404, 403), or that cannot be (422)."""
    require_own(who, tenant, "tenant")
    if role not in GRANTS[who.role]:
        raise Refusal(
            HTTPStatus.FORBIDDEN, f"A key's role is at most that of who makes it: {role} is above {who.role}."
        )
    if (role is Role.PLATFORM_ADMIN) == (tenant is not None):
        words = "A platform_admin's key reaches all tenants" if tenant else f"Name the tenant that this {role} is of"
        raise invalid([FieldError("/tenant", "required" if tenant is None else "unknown", words)])


async def listed(
    window: WindowOf,
    who: PrincipalOf,
    deps: DepsOf,
    tenant: Annotated[str | None, Query(description="Only this tenant's.", max_length=64)] = None,
) -> ListOf[KeyOut]:
    """Keys, newest first, revoked ones too: your tenant's; a platform's admin sees all."""
    if tenant is not None:
        require_own(who, tenant, "tenant")
        deps.tenant(tenant)
    page = deps.keys.keys(tenant or who.tenant, window.after, window.limit)
    return ListOf(items=[shown(key) for key in page.items], next=cursor(page.next))


async def show(key: str, who: PrincipalOf, deps: DepsOf) -> KeyOut:
    """One key."""
    return shown(_found(key, who, deps))


async def revoke(key: str, who: PrincipalOf, deps: DepsOf) -> None:
    """Revoke a key: from now on it opens nothing. It stays in the list."""
    tenant = _found(key, who, deps).tenant
    async with deps.control.hold(tenant or PLATFORM):
        held = _found(key, who, deps)
        if held.revoked_ms is None:
            await deps.write(who, tenant, key, replace(held, revoked_ms=deps.clock()), detail=f"role {held.role}")


def _found(key: str, who: Principal, deps: Deps) -> ApiKey:
    """The key, where it may be seen. Raises `Refusal` (404)."""
    if (found := deps.keys.key(key)) is None:
        raise not_found("key")
    require_own(who, found.tenant, "key")
    return found


def shown(key: ApiKey) -> KeyOut:
    """The key as clients see it."""
    return KeyOut(
        id=key.id,
        prefix=f"{key.prefix}_{key.id}",
        role=key.role.value,
        tenant=key.tenant,
        name=key.name,
        created_at=written_time(key.created_ms),
        revoked_at=None if key.revoked_ms is None else written_time(key.revoked_ms),
    )
