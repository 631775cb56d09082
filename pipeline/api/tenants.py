"""Tenants: the products' customers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import Id, ListOf, Name, Strict, WindowOf, cursor, written_time
from pipeline.api.problems import FieldError, Refusal, invalid
from pipeline.errors import Undecodable
from pipeline.flow.health import OPERATIONS
from pipeline.flow.subscription import Tenant
from pipeline.kafka.control import Removed
from pipeline.profiles import PROFILES

Plan = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Programs = Annotated[int, Field(ge=0, le=1_000_000)]


class TenantIn(Strict):
    """A new tenant: `id` is yours to choose, `profile` the product that it is a customer of."""

    id: Id = Field(examples=["acme"])
    name: Name = Field(examples=["Acme Ltd"])
    profile: str = Field(examples=["standard"], max_length=64)
    plan: Plan | None = None
    programs: Programs = 0


class TenantPatch(Strict):
    """A JSON merge patch (RFC 7396)."""

    name: Name | None = None
    plan: Plan | None = None
    programs: Programs | None = None


class TenantOut(BaseModel):
    """A tenant."""

    id: str
    name: str
    profile: str
    plan: str | None
    programs: int
    created_at: str
    updated_at: str


async def create(body: TenantIn, deps: DepsOf) -> TenantOut:
    """Make a tenant."""
    if body.profile not in PROFILES:
        raise invalid(
            [FieldError("/profile", "profile", f"There is no such profile: choose from {', '.join(PROFILES)}")]
        )
    async with deps.control.hold(body.id):
        if deps.directory.tenant(body.id) is not None:
            raise Refusal(HTTPStatus.CONFLICT, f"There is a tenant {body.id} already.")
        made = _made(body, deps)
        await deps.control.write(made)
    return shown(made)


def _made(body: TenantIn, deps: Deps) -> Tenant:
    now, key = deps.clock(), deps.vault.new_tenant_key(body.id)
    return Tenant(body.id, body.name, body.profile, body.plan, body.programs, {}, key, now, now)


async def listed(window: WindowOf, deps: DepsOf) -> ListOf[TenantOut]:
    """All tenants, newest first."""
    page = deps.directory.tenants(window.after, window.limit)
    return ListOf(items=[shown(tenant) for tenant in page.items], next=cursor(page.next))


async def show(tenant: str, deps: DepsOf) -> TenantOut:
    """One tenant."""
    return shown(deps.tenant(tenant))


async def change(tenant: str, body: TenantPatch, deps: DepsOf) -> TenantOut:
    """Change a tenant. While its product's precondition does not hold, its webhooks are suspended, never removed."""
    if "name" in body.model_fields_set and body.name is None:
        raise invalid([FieldError("/name", "required", "A tenant has a name")])
    async with deps.control.hold(tenant):
        held = deps.tenant(tenant)
        given = {name: getattr(body, name) for name in body.model_fields_set}
        if "programs" in given:
            given["programs"] = body.programs or 0
        changed = replace(held, **given)
        if changed != held:
            changed = replace(changed, updated_ms=deps.clock())
            await deps.control.write(changed)
    return shown(changed)


async def remove(tenant: str, deps: DepsOf) -> None:
    """Remove a tenant and all its webhooks. Its own key goes too: no secret of its webhooks can be read any more."""
    if tenant == OPERATIONS:
        raise Refusal(HTTPStatus.CONFLICT, f"Tenant {OPERATIONS} stays: its events tell what the pipeline notices.")
    async with deps.control.hold(tenant):
        with suppress(Undecodable):  # a record that cannot be read can be removed
            deps.tenant(tenant)
        webhooks = [path.partition("/")[2] for path in deps.directory.webhook_paths(tenant)]
        await deps.control.write(*(Removed(tenant, webhook) for webhook in webhooks), Removed(tenant))


async def ensure_operations(deps: Deps) -> None:
    """Make the tenant of the pipeline's own events, where it is not there yet. Raises `Unreachable`."""
    async with deps.control.hold(OPERATIONS):
        with suppress(Undecodable):  # a record that cannot be read is there, and is somebody's to look at
            if deps.directory.tenant(OPERATIONS) is None:
                await deps.control.write(_made(TenantIn(id=OPERATIONS, name="Operations", profile="standard"), deps))


def shown(tenant: Tenant) -> TenantOut:
    """The tenant as clients see it."""
    return TenantOut(
        id=tenant.id,
        name=tenant.name,
        profile=tenant.profile,
        plan=tenant.plan,
        programs=tenant.programs,
        created_at=written_time(tenant.created_ms),
        updated_at=written_time(tenant.updated_ms),
    )
