"""Tenants: the products' customers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.erasure import Erased, erased, forgotten_rows
from pipeline.api.lists import Id, ListOf, Name, Strict, WindowOf, cursor, written_time
from pipeline.api.problems import FieldError, Refusal, invalid
from pipeline.api.quota import EVENTS_PER_SECOND
from pipeline.api.roles import Principal
from pipeline.api.webhooks import gone
from pipeline.errors import Undecodable
from pipeline.flow.access import Role
from pipeline.flow.health import OPERATIONS
from pipeline.flow.replay import Ordered, Replay
from pipeline.flow.subscription import Tenant
from pipeline.kafka.changes import Change, Forgotten, Removed
from pipeline.kafka.topics import CANCELS, KEYS, REPLAYS
from pipeline.profiles import PROFILES

Plan = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Programs = Annotated[int, Field(ge=0, le=1_000_000)]
Validation = Literal["off", "warn", "enforce"]
_VALIDATION = (
    "What becomes over REST of an event whose data is not what the catalogue says: taken without a look (off), taken "
    "with warnings (warn), refused (enforce)."
)

_PIPELINE = Principal("pipeline", Role.PLATFORM_ADMIN, operation="createTenant")
"""Who makes what is always there."""


class Limits(Strict):
    """What a tenant may use at most; null: no limit."""

    events_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Over REST, for each API process. At once as many as come in a second, or one whole batch.",
    )


class TenantIn(Strict):
    """A new tenant: `id` is yours to choose, `profile` the product that it is a customer of."""

    id: Id = Field(examples=["acme"])
    name: Name = Field(examples=["Acme Ltd"])
    profile: str = Field(examples=["standard"], max_length=64)
    plan: Plan | None = None
    programs: Programs = 0
    limits: Limits = Limits()
    validation: Validation = Field(default="off", description=_VALIDATION)


class TenantPatch(Strict):
    """A JSON merge patch (RFC 7396)."""

    name: Name | None = None
    plan: Plan | None = None
    programs: Programs | None = None
    limits: Limits | None = None
    validation: Validation | None = Field(default=None, description=_VALIDATION)


class TenantOut(BaseModel):
    """A tenant."""

    id: str
    name: str
    profile: str
    plan: str | None
    programs: int
    limits: Limits
    validation: str
    created_at: str
    updated_at: str


async def create(body: TenantIn, who: PrincipalOf, deps: DepsOf) -> TenantOut:
    """Make a tenant."""
    if body.profile not in PROFILES:
        raise invalid(
            [FieldError("/profile", "profile", f"There is no such profile: choose from {', '.join(PROFILES)}")]
        )
    async with deps.control.hold(body.id):
        if deps.directory.tenant(body.id) is not None:
            raise Refusal(HTTPStatus.CONFLICT, f"There is a tenant {body.id} already.")
        made = _made(body, deps)
        await deps.write(who, made.id, made.id, made, detail=f"profile {made.profile}")
    return shown(made)


def _made(body: TenantIn, deps: Deps) -> Tenant:
    now, key = deps.clock(), deps.vault.new_tenant_key(body.id)
    plain = body.id, body.name, body.profile, body.plan, body.programs
    return Tenant(*plain, _limited({}, body.limits), key, now, now, body.validation)


def _limited(held: Mapping[str, int], given: Limits | None) -> dict[str, int]:
    """The limits after a merge patch of them: null takes one away, or all."""
    if given is None:
        return {}
    patched = {**held, **{name: getattr(given, name) for name in given.model_fields_set}}
    return {name: limit for name, limit in patched.items() if limit is not None}


async def listed(window: WindowOf, deps: DepsOf) -> ListOf[TenantOut]:
    """All tenants, newest first."""
    page = deps.directory.tenants(window.after, window.limit)
    return ListOf(items=[shown(tenant) for tenant in page.items], next=cursor(page.next))


async def show(tenant: str, deps: DepsOf) -> TenantOut:
    """One tenant."""
    return shown(deps.tenant(tenant))


async def change(tenant: str, body: TenantPatch, who: PrincipalOf, deps: DepsOf) -> TenantOut:
    """Change a tenant. While its product's precondition does not hold, its webhooks are suspended, never removed."""
    if "name" in body.model_fields_set and body.name is None:
        raise invalid([FieldError("/name", "required", "A tenant has a name")])
    async with deps.control.hold(tenant):
        held = deps.tenant(tenant)
        given = {name: getattr(body, name) for name in body.model_fields_set}
        if "programs" in given:
            given["programs"] = body.programs or 0
        if "limits" in given:
            given["limits"] = _limited(held.limits, body.limits)
        if "validation" in given:
            given["validation"] = body.validation or "off"
        changed = replace(held, **given)
        if changed != held:
            changed = replace(changed, updated_ms=deps.clock())
            await deps.write(who, tenant, tenant, changed, detail=", ".join(sorted(given)))
    return shown(changed)


async def remove(tenant: str, who: PrincipalOf, deps: DepsOf) -> Erased:
    """Remove a tenant, its webhooks and keys, and its rows in the delivery log.

    Its own key goes too, so no secret of its webhooks can be read any more. The answer says what stays on Kafka until
    its topics' retention ends.
    """
    if tenant == OPERATIONS:
        raise Refusal(HTTPStatus.CONFLICT, f"Tenant {OPERATIONS} stays: its events tell what the pipeline notices.")
    async with deps.control.hold(tenant):
        with suppress(Undecodable):  # a record that cannot be read can be removed
            deps.tenant(tenant)
        paths, keys = list(deps.directory.webhook_paths(tenant)), deps.keys.of(tenant)
        replays = list(deps.replays.of(tenant))
        hooks = (change for path in paths for change in gone(deps, path))
        opening = (Forgotten(KEYS, key.id) for key in keys)  # they must not open a later one of this id
        cancels = (Forgotten(CANCELS, one.delivery) for one in deps.cancels.all() if one.tenant == tenant)
        ended = (_ended(one, deps) for one in replays)
        await deps.write(who, tenant, tenant, *hooks, *opening, *cancels, *ended, Removed(tenant))
        rows = await forgotten_rows(tenant, deps, deps.clock() + 1)
    own = {f"{tenant}/{one.webhooks[0]}" for one in replays if one.target_url is not None}  # which no list has shown
    return erased(tenant, len(set(paths) - own), len(keys), rows)


def _ended(replay: Replay, deps: Deps) -> Change:
    """What ends a replay of a tenant that is no more; one that may still run must be told to stop."""
    if deps.replays.is_over(replay):
        return Forgotten(REPLAYS, replay.id)
    return replace(replay, ordered=Ordered.CANCELLED, target_url=None, updated_ms=deps.clock())


async def ensure_operations(deps: Deps) -> None:
    """Make the tenant of the pipeline's own events, where it is not there yet. Raises `Unreachable`."""
    async with deps.control.hold(OPERATIONS):
        with suppress(Undecodable):  # a record that cannot be read is there, and is somebody's to look at
            if deps.directory.tenant(OPERATIONS) is None:
                made = _made(TenantIn(id=OPERATIONS, name="Operations", profile="standard"), deps)
                await deps.write(_PIPELINE, OPERATIONS, OPERATIONS, made)


def shown(tenant: Tenant) -> TenantOut:
    """The tenant as clients see it."""
    return TenantOut(
        id=tenant.id,
        name=tenant.name,
        profile=tenant.profile,
        plan=tenant.plan,
        programs=tenant.programs,
        limits=Limits(events_per_second=tenant.limits.get(EVENTS_PER_SECOND)),
        validation=tenant.validation,
        created_at=written_time(tenant.created_ms),
        updated_at=written_time(tenant.updated_ms),
    )
