"""Whose request it is: a bearer key, compared in constant time by its SHA-256."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api.problems import Refusal, response
from pipeline.api.roles import INCLUDES, Principal, Role
from pipeline.errors import SettingsError

_PRINCIPAL = "pipeline.principal"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Keys:
    """The keys that are accepted: so far the one that the deployment was given."""

    def __init__(self, admin_key: str) -> None:
        if not admin_key:
            raise SettingsError("admin key is not set: give PIPELINE_ADMIN_KEY or PIPELINE_ADMIN_KEY_FILE")
        self._admin = hashlib.sha256(admin_key.encode()).digest()

    def principal(self, authorization: str) -> Principal | None:
        """Who `Authorization: Bearer KEY` is; None for nobody."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        known = hmac.compare_digest(given, self._admin)
        return Principal("admin", Role.PLATFORM_ADMIN) if known and scheme.lower() == "bearer" else None


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


def requires(least: Role) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses (403) whoever's role does not include `least`."""

    async def check(request: Request) -> None:
        principal: Principal = request.scope[_PRINCIPAL]
        if least not in INCLUDES[principal.role]:
            raise Refusal(HTTPStatus.FORBIDDEN, f"This needs the role {least}; the key's is {principal.role}.")

    return check
