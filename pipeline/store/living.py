"""Which tenants there are and since when, for the recorder; and that the log forgets those that are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn, Protocol

import structlog

from pipeline.errors import Undecodable, Unreachable
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import TENANTS
from pipeline.store.targets import View

_PAUSE_S = 1.0
_log = structlog.get_logger()


class Forgetful(Protocol):
    """A log that can forget (`pipeline.store.log.DeliveryLog`)."""

    def forget_tenant(self, tenant: str, before_ms: int | None = None) -> int:
        """Remove the tenant's rows, or those that were made before a time; how many. It blocks."""


class LivingTenants:
    """Implements `pipeline.workers.living.Tenants` over a view of `tenants`.

    That an earlier tenant had the same id is known from its tombstone, or told (`was_removed`). A record that cannot be
    read counts as one of a tenant that has always been there.
    """

    def __init__(self, view: View, codec: Codec, removed: Iterable[str] = (), pause_s: float = _PAUSE_S) -> None:
        self._view, self._codec, self._pause_s = view, codec, pause_s
        self._there = set(view.keys(TENANTS))
        self._since: dict[str, int | None] = {}
        self._removed: asyncio.Queue[str] = asyncio.Queue()
        for tenant in removed:
            self.was_removed(tenant)
        view.watch(self._changed)

    def since_ms(self, tenant: str) -> int | None:
        """From when on records are this tenant's: 0 where no earlier one had its id. None: it is not there."""
        if tenant in self._since:
            return self._since[tenant]
        return 0 if tenant in self._there else None

    async def newest(self) -> None:
        """Be as new as the broker is now; waits for one that is down."""
        while True:
            try:
                return await self._view.caught_up(await self._view.ends())
            except Unreachable:
                await asyncio.sleep(self._pause_s)

    def was_removed(self, tenant: str) -> None:
        """A tenant of that id has been removed; there may be a later one."""
        self._since[tenant] = self._made_ms(tenant)
        self._removed.put_nowait(tenant)

    async def removed(self) -> str:
        """The next tenant whose rows, or whose earlier ones, are to be removed."""
        return await self._removed.get()

    def _changed(self, topic: str, tenant: str) -> None:
        if topic != TENANTS:
            return
        if self._view.get(TENANTS, tenant) is not None:
            self._there.add(tenant)
            if tenant in self._since:
                self._since[tenant] = self._made_ms(tenant)
        elif tenant in self._there:
            self._there.remove(tenant)
            self.was_removed(tenant)

    def _made_ms(self, tenant: str) -> int | None:
        raw = self._view.get(TENANTS, tenant)
        try:
            return None if raw is None else self._codec.decode_tenant(raw).created_ms
        except Undecodable:
            return 0


async def forgetting(tenants: LivingTenants, log: Forgetful, settled: Callable[[], Awaitable[None]]) -> NoReturn:
    """Remove the rows of every tenant that is removed, after `settled`: what was judged before is written by then.

    Rows of a later tenant of the same id stay. While the database does not answer it is tried again.
    """
    while True:
        tenant = await tenants.removed()
        await settled()
        while True:
            try:
                count = await asyncio.to_thread(log.forget_tenant, tenant, tenants.since_ms(tenant))
            except Unreachable as error:
                _log.warning("a removed tenant is not forgotten yet", tenant=tenant, reason=str(error))
                await asyncio.sleep(_PAUSE_S)
            else:
                if count:
                    _log.info("forgotten", tenant=tenant, rows=count)
                break
