"""The router's side of the join: tenants and subscriptions as the views have them, decoded when first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from pipeline.flow.subscription import Subscription, Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.table import Table
from pipeline.kafka.topics import SUBSCRIPTIONS, TENANTS
from pipeline.ports import Tenancy
from pipeline.profiles import PROFILES, Profile

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
        record = self._table.get(TENANTS, tenant)
        if record is None:
            return None
        self._known[tenant] = made = self._tenancy(self._codec.decode_tenant(record))
        if len(self._known) > _TENANTS:
            self._known.popitem(last=False)
        return made

    def _tenancy(self, tenant: Tenant) -> Tenancy:
        profile = PROFILES[tenant.profile]
        return Tenancy(tenant, profile, _Wanting([] if profile.unmet(tenant) else self._matchers(tenant.id, profile)))

    def _matchers(self, tenant: str, profile: Profile) -> list[tuple[str, Callable[[str], bool]]]:
        subscriptions = (self._subscription(key) for key in self._table.keys(SUBSCRIPTIONS, tenant))
        return [
            (held.webhook, profile.compile_matcher(held)) for held in subscriptions if held is not None and held.active
        ]

    def _subscription(self, key: str) -> Subscription | None:
        record = self._table.get(SUBSCRIPTIONS, key)
        return None if record is None else self._codec.decode_subscription(record)

    def _forget(self, _topic: str, key: str) -> None:
        self._known.pop(key.partition("/")[0], None)


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
