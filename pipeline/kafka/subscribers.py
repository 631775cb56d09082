"""The router's side of the join: tenants and subscriptions as the views have them, decoded when first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.subscription import Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.table import Table
from pipeline.kafka.topics import SUBSCRIPTIONS, TENANTS
from pipeline.ports import Tenancy
from pipeline.profiles import PROFILES, Profile

T = TypeVar("T")
_log = structlog.get_logger()
_TENANTS = 10_000
_TYPES = 1_000
"""How many tenants, and event types of each, are remembered ready for use."""


class ViewSubscribers:
    """Implements `ports.Subscribers` over a table of `subscriptions` and `tenants`."""

    def __init__(self, table: Table, codec: Codec) -> None:
        self._table, self._codec = table, codec
        self._known: OrderedDict[str, Tenancy] = OrderedDict()
        table.watch(self._forget)

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""
        return self._table.offset(SUBSCRIPTIONS)

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant with its product and its webhooks; None if there is no such tenant."""
        if (known := self._known.get(tenant)) is not None:
            return known
        held = _readable(self._codec.decode_tenant, self._table.get(TENANTS, tenant), tenant)
        if held is None or held.profile not in PROFILES:
            return None
        self._known[tenant] = made = self._tenancy(held)
        if len(self._known) > _TENANTS:
            self._known.popitem(last=False)
        return made

    def _tenancy(self, tenant: Tenant) -> Tenancy:
        profile = PROFILES[tenant.profile]
        return Tenancy(tenant, profile, _Wanting([] if profile.unmet(tenant) else self._matchers(tenant.id, profile)))

    def _matchers(self, tenant: str, profile: Profile) -> list[tuple[str, Callable[[str], bool]]]:
        keys = self._table.keys(SUBSCRIPTIONS, tenant)
        decode = self._codec.decode_subscription
        every = (_readable(decode, self._table.get(SUBSCRIPTIONS, key), key) for key in keys)
        return [(held.webhook, profile.compile_matcher(held)) for held in every if held is not None and held.active]

    def _forget(self, _topic: str, key: str) -> None:
        self._known.pop(key.partition("/")[0], None)


def _readable(decode: Callable[[bytes], T], record: bytes | None, key: str) -> T | None:
    """The record, decoded. One that can never be read is as good as absent, and says so in the log."""
    if record is None:
        return None
    try:
        return decode(record)
    except Undecodable as error:
        _log.error("a control record cannot be read", key=key, reason=str(error))
        return None


class _Wanting:
    """Which webhooks want a type: worked out once for each type."""

    def __init__(self, matchers: list[tuple[str, Callable[[str], bool]]]) -> None:
        self._matchers = matchers
        self._types: dict[str, tuple[str, ...]] = {}

    def __call__(self, event_type: str) -> tuple[str, ...]:
        if (found := self._types.get(event_type)) is None:
            if len(self._types) >= _TYPES:
                self._types.clear()
            found = tuple(webhook for webhook, wants in self._matchers if wants(event_type))
            self._types[event_type] = found
        return found
