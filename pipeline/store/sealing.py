"""Which of the deployment's keys have sealed what: what is left to re-seal, and what this process cannot open.

The deployment's keys seal one thing alone, each tenant's own key; so a rotation of theirs touches one record a tenant,
however many webhooks it has.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pipeline.errors import Undecodable
from pipeline.flow.subscription import Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import TENANTS
from pipeline.store.secrets import DATA_KEY, Vault
from pipeline.store.targets import View


class Sealing:
    """Follows the tenants of a view (`pipeline.kafka.table.Table`).

    Only those that the first key has not sealed are remembered: as a rule there are none.
    """

    def __init__(self, view: View, codec: Codec, vault: Vault) -> None:
        self._view, self._codec, self._vault = view, codec, vault
        self._others: dict[str, str] = {}
        self._unread: set[str] = set()
        for tenant in view.keys(TENANTS):
            self._look(tenant)
        view.watch(self._changed)

    @property
    def key_id(self) -> str:
        """The key that seals."""
        return self._vault.key_id

    def counts(self) -> Mapping[str, int]:
        """How many tenants' keys each key has sealed; every key that this process has is there, in their order."""
        self._read_again()
        others = Counter(self._others.values())
        whole = sum(1 for _ in self._view.keys(TENANTS))
        known = {name: others.pop(name, 0) for name, _ in self._vault.keys}
        known[self.key_id] = whole - len(self._others) - len(self._unread)
        return known | dict(sorted(others.items()))

    def knows(self, key_id: str) -> bool:
        """Whether this process has that key."""
        return any(name == key_id for name, _ in self._vault.keys)

    def unreadable(self) -> int:
        """How many tenants' records cannot be read: who sealed what is in them cannot be told."""
        self._read_again()
        return len(self._unread)

    def left(self, after: str = "", limit: int | None = None) -> list[str]:
        """The ids, in their order and after that one, of tenants whose key another key than the first has sealed."""
        self._read_again()
        found = (tenant for tenant in self._others if tenant > after)
        return sorted(found) if limit is None else heapq.nsmallest(limit, found)

    @property
    def warning(self) -> str | None:
        """What an operator should see to before a process meets it; None when there is nothing."""
        self._read_again()
        if missing := Counter(name for name in self._others.values() if not self.knows(name)):
            said = ", ".join(f"{name!r} has sealed {count}" for name, count in sorted(missing.items()))
            return f"tenants' keys are sealed by keys that are not among the encryption keys: {said}"
        return None

    def _changed(self, topic: str, key: str) -> None:
        if topic == TENANTS:
            self._look(key)

    def _look(self, tenant: str) -> None:
        raw = self._view.get(TENANTS, tenant)
        self._others.pop(tenant, None)
        self._unread.discard(tenant)
        try:
            held = None if raw is None else self._codec.decode_tenant(raw).data_key
        except Undecodable:
            self._unread.add(tenant)
            return
        if held is not None and held.key != self.key_id:
            self._others[tenant] = held.key

    def _read_again(self) -> None:
        """A record of another version may be readable by now: its schema has been learned."""
        for tenant in tuple(self._unread):
            self._look(tenant)


def resealed(vault: Vault, tenant: Tenant) -> Tenant | None:
    """The tenant with its own key sealed by the first key; None where that is so already.

    Raises `Unreadable` when the box cannot be opened.
    """
    held = tenant.data_key
    if held is None or held.key == vault.key_id:
        return None
    plain = vault.open(held, tenant=tenant.id, webhook="", field=DATA_KEY)
    box = vault.seal(plain, tenant=tenant.id, webhook="", field=DATA_KEY, version=held.version + 1)
    return replace(tenant, data_key=box)
