"""Some of a tenant's webhooks, as if there were no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.ports import Subscribers, Tenancy


@dataclass(frozen=True, slots=True)
class Chosen:
    """The subscribers (`ports.Subscribers`), of whom these webhooks alone are looked at.

    With `paths` only those of them whose `tenant/webhook` it takes; with `webhooks` None all that it takes.
    """

    every: Subscribers
    webhooks: frozenset[str] | None
    paths: Callable[[str], bool] = lambda _: True

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""
        return self.every.offset

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant with those of its webhooks; None if there is no such tenant."""
        found = self.every.of(tenant)
        if found is None:
            return None
        untold = found.unreadable if self.webhooks is None else ()
        return replace(found, wanting=self._wanting(found), unreadable=untold)

    def _wanting(self, found: Tenancy) -> Callable[[str], tuple[str, ...]]:
        return lambda type_: tuple(one for one in found.wanting(type_) if self._takes(found.tenant.id, one))

    def _takes(self, tenant: str, webhook: str) -> bool:
        return (self.webhooks is None or webhook in self.webhooks) and self.paths(f"{tenant}/{webhook}")
