"""The deployment's encryption keys: what each has sealed, and the re-sealing of it by the first one."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, Field

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import Strict
from pipeline.api.roles import Principal
from pipeline.store.sealing import resealed
from pipeline.store.secrets import Unreadable

MAX_STEP = 1_000


class RotateIn(Strict):
    """How much to re-seal in this request."""

    dry_run: bool = Field(default=False, description="Change nothing: only count.")
    limit: int = Field(default=200, ge=1, le=MAX_STEP, description="How many tenants' keys at most.")
    after: str | None = Field(
        default=None, max_length=64, description="`next` of the answer before; null: from the beginning."
    )


class SealingKeyOut(BaseModel):
    """One of the deployment's keys, by its id: a key itself is never shown."""

    id: str = Field(examples=["k1"])
    seals: bool = Field(description="Whether it is the first: what is sealed from now on is sealed by it.")
    known: bool = Field(description="False: records need it, and this process does not have it.")
    tenants: int = Field(description="How many tenants' keys it has sealed.")


class SecretsOut(BaseModel):
    """What the deployment's keys have sealed."""

    key: str = Field(description="The key that seals: the first of PIPELINE_ENCRYPTION_KEYS.", examples=["k1"])
    keys: list[SealingKeyOut] = Field(description="In their order; then those that only records name.")
    left: int = Field(description="Tenants' keys that another key than the first has sealed.")
    unreadable: int = Field(description="Tenants' records that cannot be read: nothing can be said of them.")


class Failure(BaseModel):
    """A tenant whose key could not be re-sealed, and why."""

    tenant: str
    reason: str


class RotatedSecrets(SecretsOut):
    """What this request did, and what there is afterwards. Give `next` as `after` to go on; null: that was all."""

    resealed: int = Field(description="Tenants' keys that this request has re-sealed.")
    failed: list[Failure] = Field(description="Those it could not; the others were gone on with.")
    next: str | None


async def show(deps: DepsOf) -> SecretsOut:
    """What each of the deployment's keys has sealed.

    A key that has sealed nothing any more, on any process, may be removed.
    """
    return _counted(deps)


async def rotate(who: PrincipalOf, deps: DepsOf, body: RotateIn | None = None) -> RotatedSecrets:
    """Re-seal what another key than the first has sealed, up to `limit` tenants' keys; go on with `after`.

    Deliveries go on meanwhile. What is done is skipped: a rotation that was cut short is simply begun again.
    """
    form = body or RotateIn()
    found = deps.sealing.left(form.after or "", form.limit + 1)
    step = [] if form.dry_run else found[: form.limit]
    ended = await asyncio.gather(*(_reseal(tenant, who, deps) for tenant in step))
    return RotatedSecrets(
        **_counted(deps).model_dump(),
        resealed=sum(one is True for one in ended),
        failed=[one for one in ended if isinstance(one, Failure)],
        next=step[-1] if step and len(found) > form.limit else None,
    )


async def _reseal(tenant: str, who: Principal, deps: Deps) -> bool | Failure:
    """Whether it was to be done still, and has been. Raises `Unreachable`."""
    async with deps.control.hold(tenant):
        try:
            held = deps.directory.tenant(tenant)
            changed = None if held is None else resealed(deps.vault, held)
        except Unreadable as error:
            return Failure(tenant=tenant, reason=str(error))
        if changed is not None:
            await deps.write(who, tenant, tenant, changed, detail=f"key {deps.vault.key_id}")
    return changed is not None


def _counted(deps: Deps) -> SecretsOut:
    sealing = deps.sealing
    keys = [
        SealingKeyOut(id=name, seals=name == sealing.key_id, known=sealing.knows(name), tenants=count)
        for name, count in sealing.counts().items()
    ]
    left = sum(key.tenants for key in keys if not key.seals)
    return SecretsOut(key=sealing.key_id, keys=keys, left=left, unreadable=sealing.unreadable())
