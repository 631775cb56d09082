"""What the resources need of the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from pipeline.api.problems import not_found
from pipeline.errors import PipelineError
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.control import Change
from pipeline.store.directory import Page, Place
from pipeline.store.secrets import Vault


class Directory(Protocol):
    """Tenants and webhooks as they are now."""

    def tenant(self, tenant: str) -> Tenant | None:
        """The tenant of that id."""

    def tenants(self, after: Place | None, limit: int) -> Page[Tenant]:
        """The tenants that follow a place, newest first."""

    def webhook(self, tenant: str, webhook: str) -> Subscription | None:
        """That webhook of that tenant."""

    def webhooks(self, tenant: str, after: Place | None, limit: int) -> Page[Subscription]:
        """The tenant's webhooks that follow a place, newest first."""

    def webhook_paths(self, tenant: str) -> Iterator[str]:
        """`tenant/webhook` of every webhook of the tenant."""

    def states(self, paths: Sequence[str]) -> Awaitable[dict[str, EndpointState]]:
        """What the senders know of the endpoints of these webhooks, where they know anything."""


class Control(Protocol):
    """The writer of tenants and webhooks."""

    def hold(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """Nobody else changes this tenant or its webhooks. Raises `Unreachable` while no change can be made."""

    def write(self, *changes: Change) -> Awaitable[None]:
        """All or none; the directory holds them afterwards. Raises `Unreachable`."""


class Ingest(Protocol):
    """The writer of events."""

    def publish(self, events: Sequence[Event]) -> Awaitable[list[PipelineError | None]]:
        """For each event None when it is durable, or why that is not known."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of the application. `clock` is wall time in milliseconds; `random` gives that many random bytes."""

    directory: Directory
    control: Control
    ingest: Ingest
    vault: Vault
    policy: EgressPolicy
    admin_key: str
    clock: Callable[[], int]
    random: Callable[[int], bytes]
    not_ready: Callable[[], list[str]]
    metrics: CollectorRegistry

    def tenant(self, tenant: str) -> Tenant:
        """The tenant. Raises `Refusal` (404)."""
        if (found := self.directory.tenant(tenant)) is None:
            raise not_found("tenant")
        return found

    def webhook(self, tenant: str, webhook: str) -> Subscription:
        """The webhook. Raises `Refusal` (404)."""
        if (found := self.directory.webhook(tenant, webhook)) is None:
            raise not_found("webhook")
        return found


def _deps(request: Request) -> Deps:
    found: Deps = request.app.state.deps
    return found


DepsOf = Annotated[Deps, Depends(_deps)]
"""An operation's parameter: the parts."""
