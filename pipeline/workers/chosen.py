"""Some of a tenant's webhooks, as if there were no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.ports import Subscribers, Tenancy


@dataclass(frozen=True, slots=True)
class Chosen:
    """The subscribers (`ports.Subscribers`), of whom these webhooks alone are looked at."""

    every: Subscribers
    webhooks: frozenset[str]

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""
        return self.every.offset

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant with those of its webhooks; None if there is no such tenant."""
        found = self.every.of(tenant)
        return None if found is None else replace(found, wanting=self._wanting(found), unreadable=())

    def _wanting(self, found: Tenancy) -> Callable[[str], tuple[str, ...]]:
        return lambda type_: tuple(one for one in found.wanting(type_) if one in self.webhooks)
