"""What the resources need of the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from pipeline.api.ids import base62
from pipeline.api.log.asking import AskedLog
from pipeline.api.log.issued import Issued
from pipeline.api.log.records import Records
from pipeline.api.log.statuses import Statuses
from pipeline.api.planning import Plans
from pipeline.api.problems import not_found
from pipeline.api.quota import Quota
from pipeline.api.roles import Principal
from pipeline.api.trying import Trials
from pipeline.errors import PipelineError
from pipeline.flow.access import ApiKey
from pipeline.flow.audit import Audit
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.replay import Progress, Replay
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.flow.trials import WebhookTest
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.cancels import Cancels
from pipeline.kafka.changes import Change
from pipeline.store.pages import Page, Place
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
        """`tenant/webhook` of every webhook of the tenant, and of endpoints of replays alone."""

    def test(self, path: str) -> WebhookTest | None:
        """The latest test of the configuration of `tenant/webhook`, if it was ever tested."""

    def states(self, paths: Sequence[str]) -> Awaitable[dict[str, EndpointState]]:
        """What the senders know of the endpoints of these webhooks, where they know anything."""


class KeyRing(Protocol):
    """The keys of this API as they are now."""

    def key(self, key: str) -> ApiKey | None:
        """The key of that id, also when it has been revoked."""

    def keys(self, tenant: str | None, after: Place | None, limit: int) -> Page[ApiKey]:
        """The keys that follow a place, newest first: the tenant's, or all."""

    def of(self, tenant: str) -> list[ApiKey]:
        """All keys of the tenant."""


class Replays(Protocol):
    """The replays as they are now, those of dead letters too."""

    def replay(self, replay: str) -> Replay | None:
        """The order of that id."""

    def replays(self, tenant: str | None, after: Place | None, limit: int) -> Page[Replay]:
        """The orders that follow a place, newest first: those of one tenant's events, or all."""

    def of(self, tenant: str | None) -> Iterator[Replay]:
        """All orders of one tenant's events, or all that there are."""

    def learn(self, replays: Sequence[str]) -> Awaitable[None]:
        """Be able to read what is said of these, as far as its schemas can be learned."""

    def progress(self, replay: str) -> Progress | None:
        """How far it has come; None while no replayer has said."""

    def is_over(self, order: Replay) -> bool:
        """Whether it never goes on."""

    def lately(self, replay: str) -> tuple[Progress, Progress] | None:
        """What has been said of one that goes on: the first word of the last seconds, and the last."""


class Control(Protocol):
    """The writer of control records; operations write by `Deps.write`."""

    def hold(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """Nobody else changes this tenant or its webhooks. Raises `Unreachable` while no change can be made."""

    def write(self, audit: Audit, *changes: Change) -> Awaitable[None]:
        """All or none, with the record of who did it; the directory holds them afterwards. Raises `Unreachable`."""


class Ingest(Protocol):
    """The writer of events."""

    def publish(self, events: Sequence[Event]) -> Awaitable[list[PipelineError | None]]:
        """For each event None when it is durable, or why that is not known."""


class Sealing(Protocol):
    """Which of the deployment's keys have sealed the tenants' own keys (`pipeline.store.sealing.Sealing`)."""

    @property
    def key_id(self) -> str:
        """The key that seals."""

    @property
    def warning(self) -> str | None:
        """What an operator should see to; None when there is nothing."""

    def counts(self) -> Mapping[str, int]:
        """How many tenants' keys each key has sealed."""

    def knows(self, key_id: str) -> bool:
        """Whether this process has that key."""

    def unreadable(self) -> int:
        """How many tenants' records cannot be read."""

    def left(self, after: str = "", limit: int | None = None) -> list[str]:
        """The ids, in their order and after that one, of tenants whose key is still to be re-sealed."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of the application. `clock` is wall time in milliseconds; `random` gives that many random bytes.

    `log` is the delivery log; `records` the flow's own records, `cancels` and `issued` what is known of deliveries
    before the log has it. `plans` finds windows of topics, and counts what replays of them would send; `statuses` what
    became of replays' deliveries.
    """

    directory: Directory
    log: AskedLog
    records: Records
    cancels: Cancels
    issued: Issued
    keys: KeyRing
    replays: Replays
    statuses: Statuses
    plans: Plans
    control: Control
    ingest: Ingest
    quota: Quota
    vault: Vault
    sealing: Sealing
    trials: Trials
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
        """The webhook. Raises `Refusal` (404), also for the endpoint of a replay alone."""
        found = self.directory.webhook(tenant, webhook)
        if found is None or found.replay is not None:
            raise not_found("webhook")
        return found

    async def write(self, who: Principal, tenant: str | None, target: str, *changes: Change, detail: str = "") -> None:
        """Make the changes, all or none, and write down who made them. Raises `Unreachable`.

        `tenant` is whose they are (None: the platform's), `target` the id of what is changed; `detail` may name fields,
        and holds nothing secret.
        """
        made = Audit("aud_" + base62(22), self.clock(), who.key, who.role.value, who.operation, tenant, target, detail)
        await self.control.write(made, *changes)


async def _deps(request: Request) -> Deps:
    found: Deps = request.app.state.deps
    return found


DepsOf = Annotated[Deps, Depends(_deps)]
"""An operation's parameter: the parts."""
