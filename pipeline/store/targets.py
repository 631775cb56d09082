"""The sender's side of the join: webhooks decoded, opened and made ready once for each change, then only looked up."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.deadletter import Reason
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.states import EndpointStates
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.ports import Target
from pipeline.profiles import PROFILES, Profile
from pipeline.store.secrets import Secrets, Unreadable, Vault, open_auth, open_client_certificate, open_headers

READY = 10_000
"""How many webhooks are kept ready."""

_PAUSE_S = 1.0
_ASKS = 5
"""How often the broker is asked for an offset that it says it does not have."""


class View(Protocol):
    """The newest records of `subscriptions`, `tenants` and `endpoint-state`, still encoded.

    It is a `pipeline.kafka.table.Table`.
    """

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""

    def keys(self, topic: str, group: str | None = None) -> Iterator[str]:
        """All keys, or those of one tenant."""

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(topic, key)` after every change."""

    def offset(self, topic: str) -> int:
        """How far a one-partition topic has been read."""

    async def reached(self, topic: str, offset: int) -> None:
        """Wait until the topic has been read up to `offset`."""

    async def ends(self) -> dict[tuple[str, int], int]:
        """Where the topics end now. Raises `Unreachable`."""

    async def caught_up(self, ends: dict[tuple[str, int], int]) -> None:
        """Wait until the topics have been read up to there."""


class _Ready(NamedTuple):
    target: Target
    until_ms: int
    """When an old secret stops signing along; 0 for never."""


class ViewTargets:
    """Implements `ports.Targets` over a view.

    What it finds can be sent to: active, not disabled by failures, its tenant there and fit for it. `states` is what
    the view has of the endpoints.
    """

    def __init__(
        self,
        view: View,
        codec: Codec,
        vault: Vault,
        clock: Callable[[], float] = time.time,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._view, self._codec, self._vault, self._clock, self._pause_s = view, codec, vault, clock, pause_s
        self._ready: OrderedDict[tuple[str, str], _Ready] = OrderedDict()
        self._doubts: list[tuple[str, str]] = []
        self._asking, self._asked = asyncio.Lock(), 0
        self.states = EndpointStates(view, codec)
        view.watch(self._forget)

    def find(self, tenant: str, webhook: str) -> Target | None:
        """The webhook, ready to be sent to; None if there is none to send to, as far as the view has been read.

        Raises `Undecodable` when its record, or its tenant's, can never be used: its deliveries are dead letters.
        Raises `Unreadable` when the tenant's key is sealed by one that this process does not have.
        """
        key = (tenant, webhook)
        ready = self._ready.get(key)
        if ready is None or (ready.until_ms and ready.until_ms <= self._now_ms()):
            ready = self._make(tenant, webhook)
            if ready is None:
                return None
            if self.states.late(ready.target.subscription.path):  # it is looked at again when its schema is known
                return ready.target
            self._ready[key] = ready
            if len(self._ready) > READY:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return ready.target

    async def reached(self, subscriptions_offset: int) -> None:
        """Wait until the view holds all that the router saw: the subscriptions up to this offset.

        Where `find` has just met a record that its tenant's did not fit, or that it could not read yet, also until the
        view is as new as the broker, and the record's schema is known. Raises `Undecodable` for a record that can never
        be read, and for an offset that the broker itself does not come to: then no router of ours has seen it.
        """
        doubts, self._doubts = self._doubts, []
        if self._view.offset(SUBSCRIPTIONS) < subscriptions_offset:
            await self._seen_by_router(subscriptions_offset)
        if doubts:
            await self._newest()
            for doubt in doubts:
                await self._learn(*doubt)

    def _make(self, tenant_id: str, webhook: str) -> _Ready | None:
        raw = self._view.get(SUBSCRIPTIONS, f"{tenant_id}/{webhook}")
        if raw is None:
            return None
        try:
            return self._made(self._own(tenant_id, webhook, raw), self._tenant(tenant_id))
        except Undecodable as error:
            if error.reason != Reason.UNKNOWN_SCHEMA:
                raise
            self._doubts.append((tenant_id, webhook))
            return None

    def _own(self, tenant: str, webhook: str, raw: bytes) -> Subscription:
        held = self._codec.decode_subscription(raw)
        if (held.tenant, held.webhook) != (tenant, webhook):
            raise Undecodable(Reason.INVALID, f"the record of webhook {tenant}/{webhook} is another one's")
        return held

    def _made(self, held: Subscription, tenant: Tenant | None) -> _Ready | None:
        if not held.active or self.states.disable(held):
            return None
        profile = None if tenant is None else _product(tenant)
        vault = None if tenant is None or profile is None or profile.unmet(tenant) else self._vault.tenant_vault(tenant)
        if (
            profile is None
            or vault is None
            or not all(vault.knows(box) for box in (held.auth.sealed, held.headers, held.client_certificate) if box)
        ):
            self._doubts.append((held.tenant, held.webhook))
            return None
        try:
            secrets = open_auth(vault, held.tenant, held.webhook, held.auth.sealed).at(self._now_ms())
            headers = tuple(open_headers(vault, held.tenant, held.webhook, held.headers).items())
            certificate = open_client_certificate(vault, held.tenant, held.webhook, held.client_certificate)
            prepared = profile.prepare(held.url, held.auth.type, secrets.in_force(), headers, certificate)
        except (Unreadable, ValueError, TypeError, KeyError) as error:  # the keys are known: the record is at fault
            raise Undecodable(Reason.INVALID, f"webhook {held.path} cannot be used: {_words(error)}") from error
        return _Ready(Target(held, profile, prepared), _until(secrets))

    def _tenant(self, tenant: str) -> Tenant | None:
        raw = self._view.get(TENANTS, tenant)
        return None if raw is None else self._codec.decode_tenant(raw)

    async def _seen_by_router(self, offset: int) -> None:
        """Read on to the offset; a new leader may take a moment to know all that its predecessor had told."""
        for _ in range(_ASKS):
            end = (await self._ends())[SUBSCRIPTIONS, 0]
            if end >= offset:
                return await self._view.reached(SUBSCRIPTIONS, offset)
            await asyncio.sleep(self._pause_s)
        raise Undecodable(Reason.INVALID, f"it was routed at offset {offset} of {SUBSCRIPTIONS}, which ends at {end}")

    async def _newest(self) -> None:
        """Be as new as the broker is now: one question for all who ask at the same time."""
        mine = self._asked
        async with self._asking:
            if self._asked > mine:  # a question that began after we came has been answered
                return
            self._asked += 1
            await self._view.caught_up(await self._ends())

    async def _ends(self) -> dict[tuple[str, int], int]:
        """Waits for a broker that is down."""
        while True:
            try:
                return await self._view.ends()
            except Unreachable:
                await asyncio.sleep(self._pause_s)

    async def _learn(self, tenant: str, webhook: str) -> None:
        held = self._view.get(SUBSCRIPTIONS, f"{tenant}/{webhook}"), self._view.get(TENANTS, tenant)
        await self._learned(not_ours(self._codec, held))
        if held[0] is not None:
            self._codec.decode_subscription(held[0])
        if held[1] is not None:
            self._codec.decode_tenant(held[1])

    async def _learned(self, values: list[bytes]) -> None:
        """Waits for a registry that is down."""
        while True:
            try:
                return await self._codec.learn(values)
            except Unreachable:
                await asyncio.sleep(self._pause_s)

    def _forget(self, topic: str, key: str) -> None:
        tenant, _, webhook = key.partition("/")
        if topic == SUBSCRIPTIONS:
            self._ready.pop((tenant, webhook), None)
        elif topic == ENDPOINT_STATE:
            if (tenant, webhook) in self._ready and self.states.switched(key):
                del self._ready[tenant, webhook]
        elif topic == TENANTS:
            for path in self._view.keys(SUBSCRIPTIONS, key):
                self._ready.pop((key, path.partition("/")[2]), None)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def not_ours(codec: Codec, values: Iterable[bytes | None]) -> list[bytes]:
    """The records that another version's schema wrote."""
    ours = tuple(codec.heads.values())
    return [value for value in values if value is not None and not value.startswith(ours)]


def _product(tenant: Tenant) -> Profile:
    if tenant.profile not in PROFILES or tenant.data_key is None:
        raise Undecodable(Reason.INVALID, f"tenant {tenant.id} has no key, or a product unknown to this version")
    return PROFILES[tenant.profile]


def _words(error: Exception) -> str:
    """Ours are plain sentences; others' may repeat a secret."""
    return str(error) if isinstance(error, Unreadable) else "its secrets are not those of its kind of authentication"


def _until(secrets: Secrets) -> int:
    return min((until_ms for _, until_ms in secrets.previous), default=0)
