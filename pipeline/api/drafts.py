"""Between a webhook's record, sealed by its tenant's key, and the draft that a person edits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from pipeline.api.deps import Deps
from pipeline.api.forms import Draft
from pipeline.api.problems import FieldError, Refusal
from pipeline.flow.subscription import Auth, Sealed, Subscription, Tenant
from pipeline.profiles import PROFILES, Profile
from pipeline.store.secrets import (
    Vault,
    open_auth,
    open_client_certificate,
    open_headers,
    seal_auth,
    seal_client_certificate,
    seal_headers,
)


@dataclass(frozen=True, slots=True)
class Owner:
    """A tenant with its product and the vault of its secrets."""

    tenant: Tenant
    profile: Profile
    vault: Vault

    @classmethod
    def of(cls, deps: Deps, tenant: str) -> Owner:
        """The tenant of that id. Raises `Refusal` (404)."""
        found = deps.tenant(tenant)
        return cls(found, PROFILES[found.profile], deps.vault.tenant_vault(found))

    def require_preconditions(self) -> None:
        """Raise `Refusal` (409) with the product's own reason when the tenant may have no webhook."""
        if unmet := self.profile.unmet(self.tenant):
            raise Refusal(HTTPStatus.CONFLICT, unmet.refusal, [FieldError(f"/{unmet.rule}", unmet.rule, unmet.refusal)])


def opened(held: Subscription, owner: Owner) -> Draft:
    """The webhook as a person would fill it in. Raises `Unreadable`."""
    return Draft(
        held.url,
        held.name,
        held.events,
        held.components,
        held.active,
        held.rate,
        held.max_in_flight,
        open_headers(owner.vault, held.tenant, held.webhook, held.headers),
        held.auth.type,
        open_auth(owner.vault, held.tenant, held.webhook, held.auth.sealed),
        open_client_certificate(owner.vault, held.tenant, held.webhook, held.client_certificate),
        filter=held.filter,
        projection=held.projection,
    )


def saved(draft: Draft, held: Subscription | None, owner: Owner, webhook: str, now_ms: int) -> Subscription:
    """The record. Another URL or authentication begins a generation, and so does switching on."""
    tenant = owner.tenant.id
    base = held or Subscription(tenant, webhook, "", (), Auth(""), version=0, created_ms=now_ms)
    same: dict[str, Any] = {name: getattr(draft, name) for name in _SAME}
    made = replace(base, **same, **_sealed(draft, held, owner, webhook), version=base.version + 1, updated_ms=now_ms)
    renewed = held is not None and (_proof(made) != _proof(held) or made.active > held.active)
    return replace(made, generation=base.generation + renewed)


def _proof(held: Subscription) -> tuple[Any, ...]:
    """To whom requests go, and what proves who sent them."""
    return held.url, held.auth, held.client_certificate


def _sealed(draft: Draft, held: Subscription | None, owner: Owner, webhook: str) -> dict[str, Any]:
    """The fields that hold secrets. Only what has changed is sealed anew."""
    before = opened(held, owner) if held else Draft()
    place = owner.vault, owner.tenant.id, webhook
    auth, headers = (held.auth, held.headers) if held else (Auth(""), None)
    certificate = held.client_certificate if held else None
    if held is None or (draft.auth_type, draft.secrets) != (before.auth_type, before.secrets):
        box = seal_auth(*place, draft.secrets, _next(auth.sealed)) if draft.secrets.values else None
        auth = Auth(draft.auth_type, box)
    if draft.headers != before.headers:
        headers = seal_headers(*place, draft.headers, _next(headers))
    if draft.client_certificate != before.client_certificate:
        certificate = seal_client_certificate(*place, draft.client_certificate, _next(certificate))
    return {"auth": auth, "headers": headers, "client_certificate": certificate}


_SAME = ("url", "name", "events", "components", "active", "rate", "max_in_flight", "filter", "projection")
"""What a draft and a record hold alike."""


def _next(sealed: Sealed | None) -> int:
    return 1 if sealed is None else sealed.version + 1
