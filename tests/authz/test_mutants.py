"""The matrix would notice: a check that is weaker than the document turns it red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from pipeline.api import app, auth, keys
from pipeline.api.problems import Refusal
from pipeline.api.roles import INCLUDES
from pipeline.flow.access import ApiKey, Role
from pipeline.flow.subscription import Subscription
from pipeline.kafka.topics import SUBSCRIPTIONS
from pipeline.store.directory import Directory
from pipeline.store.keys import KeyRing
from tests.api.parts import memory_parts
from tests.authz.matrix import DOCUMENT, World, operations, violations

OPERATIONS = {operation.id: operation for operation in operations(DOCUMENT)}
FIND, FIND_WEBHOOK = KeyRing.key, Directory.webhook


class Mutant(NamedTuple):
    """A weaker check in the place of the real one, and what the matrix is to say of which operation."""

    where: Any
    name: str
    check: Callable[..., Any]
    operation: str
    told: str


def lower(_least: Role, *, configures: bool = False) -> Callable[[Request], Any]:
    """A lower least role than the document's."""
    return auth.requires(Role.VIEWER, configures=configures)


def whatever_product(least: Role, **_configures: bool) -> Callable[[Request], Any]:
    """Without the least role of the product."""
    return auth.requires(least)


def whatever_tenant(least: Role, **_configures: bool) -> Callable[[Request], Any]:
    """Without a look at the path."""

    async def check(request: Request) -> None:
        if least not in INCLUDES[request.scope[auth._PRINCIPAL].role]:
            raise Refusal(HTTPStatus.FORBIDDEN, "no")

    return check


def whoever(*_given: Any) -> None:
    """Without a look at whose the key is."""


def never_revoked(ring: KeyRing, key: str) -> ApiKey | None:
    """A key ring that forgets what was revoked."""
    return None if (found := FIND(ring, key)) is None else replace(found, revoked_ms=None)


def whosever_webhook(directory: Directory, tenant: str, webhook: str) -> Subscription | None:
    """A directory that finds a webhook by its id alone."""
    paths = (path for path in directory._view.keys(SUBSCRIPTIONS) if path.endswith(f"/{webhook}"))
    return FIND_WEBHOOK(directory, next(paths, f"{tenant}/").partition("/")[0], webhook)


@pytest.mark.authz
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant(app, "requires", lower, "createTenant", "reached instead of forbidden"),
        Mutant(app, "requires", whatever_product, "createWebhook", "manager of acme: reached instead of forbidden"),
        Mutant(app, "requires", whatever_tenant, "listWebhooks", "of other: reached instead of hidden"),
        Mutant(keys, "require_own", whoever, "revokeKey", "owner of other: reached instead of hidden"),
        Mutant(Directory, "webhook", whosever_webhook, "deleteWebhook", "what is other's: reached instead of missing"),
        Mutant(KeyRing, "key", never_revoked, "getTenant", "reached instead of nobody"),
    ],
    ids=lambda mutant: mutant.check.__name__,
)
async def test_the_matrix_notices(monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    """An operation whose check is weaker than what the document says of it is reported."""
    monkeypatch.setattr(mutant.where, mutant.name, mutant.check)
    parts = memory_parts()
    async with World(parts) as world:
        found = await violations(world, OPERATIONS[mutant.operation])
    parts.deps.log.close()
    assert any(mutant.told in wrong for wrong in found), found
