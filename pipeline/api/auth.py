"""Whose request it is, by a bearer key; and what that key reaches, by the table of operations."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api.deps import Deps
from pipeline.api.parameters import refuse_unknown
from pipeline.api.problems import Refusal, not_found, response
from pipeline.api.roles import INCLUDES, Principal
from pipeline.errors import SettingsError
from pipeline.flow.access import ApiKey, Role
from pipeline.profiles import PROFILES, Profile

PREFIX = "whk"
"""What every key begins with that was made over the API: whoever finds one knows what it is."""

_PRINCIPAL = "pipeline.principal"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_PARTS = 3
_NOBODY = bytes(32)
"""No secret has this hash; it is compared with where there is no such key, so that this takes as long."""


class Keys:
    """The keys that are accepted: the deployment's own, and those that `find` knows by their ids."""

    def __init__(self, admin_key: str, find: Callable[[str], ApiKey | None]) -> None:
        if not admin_key:
            raise SettingsError("admin key is not set: give PIPELINE_ADMIN_KEY or PIPELINE_ADMIN_KEY_FILE")
        self._admin, self._find = hashed(admin_key), find

    def principal(self, authorization: str) -> Principal | None:
        """Who `Authorization: Bearer KEY` is; None for nobody."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = given.strip()
        if hmac.compare_digest(hashed(given), self._admin):
            return Principal("admin", Role.PLATFORM_ADMIN)
        return self._made(given.split("_", _PARTS - 1))

    def _made(self, parts: list[str]) -> Principal | None:
        key = self._find(parts[1]) if len(parts) == _PARTS and parts[0] == PREFIX else None
        matches = hmac.compare_digest(hashed(parts[-1]), _NOBODY if key is None else key.hash)
        return Principal(key.id, key.role, key.tenant) if key and matches and key.revoked_ms is None else None


def hashed(secret: str) -> bytes:
    """What is kept of a key. Its secret is long and random: one SHA-256 hides it."""
    return hashlib.sha256(secret.encode()).digest()


class Authenticate:
    """Lets nothing under `/v1/` be read, body or path, by a request without a key (401)."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            principal = self._keys.principal(Headers(scope=scope).get("authorization", ""))
            if principal is None:
                refused = response(
                    HTTPStatus.UNAUTHORIZED, "Give a valid key: Authorization: Bearer KEY", (), _CHALLENGE
                )
                await refused(scope, receive, send)
                return
            scope[_PRINCIPAL] = principal
        await self._app(scope, receive, send)


def requires(least: Role, *, configures: bool = False) -> Callable[[Request], Awaitable[None]]:
    """A dependency that keeps a key to its own tenant (404) and refuses (403) a role that does not include `least`.

    To whom it may serve, it refuses (422) parameters that the operation does not know.

    Where the operation configures webhooks, the role must include the least of the tenant's product as well, and the
    refusal is in the product's words.
    """

    async def check(request: Request) -> None:
        principal: Principal = request.scope[_PRINCIPAL]
        tenant = request.path_params.get("tenant")
        if tenant is not None and principal.tenant not in {None, tenant}:
            raise not_found("tenant")
        product = _product(request, principal.tenant) if configures and principal.tenant else None
        if product and not {least, Role(product.least_role)} <= INCLUDES[principal.role]:
            raise Refusal(HTTPStatus.FORBIDDEN, product.refusals.role)
        if least not in INCLUDES[principal.role]:
            raise Refusal(HTTPStatus.FORBIDDEN, f"This needs the role {least}; the key's is {principal.role}.")
        if request.scope["query_string"]:
            refuse_unknown(request)

    return check


def require_own(who: Principal, tenant: str | None, what: str) -> None:
    """Raise `Refusal` (404) for what is not this one's: another tenant's, or the platform's."""
    if who.tenant not in {None, tenant}:
        raise not_found(what)


def _product(request: Request, tenant: str) -> Profile:
    deps: Deps = request.app.state.deps
    return PROFILES[deps.tenant(tenant).profile]


async def _principal(request: Request) -> Principal:
    found: Principal = request.scope[_PRINCIPAL]
    return replace(found, operation=request.scope["route"].operation_id)


PrincipalOf = Annotated[Principal, Depends(_principal)]
"""An operation's parameter: who asks, and for which operation."""
