"""How many events a tenant may send: its limit `events_per_second`, counted in each API process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from pipeline.api.problems import FieldError, Refusal
from pipeline.flow.quota import Bucket, taken
from pipeline.flow.subscription import Tenant

EVENTS_PER_SECOND = "events_per_second"
"""The limit's name in a tenant's record."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The buckets of tenants that have a limit. `clock` is monotonic time in seconds.

    A bucket holds one second's worth, or one whole batch (`batch` events) where that is more: no batch is too big for
    ever.
    """

    batch: int
    clock: Callable[[], float]
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, tenant: Tenant, count: int) -> None:
        """Let so many events in, all or none. Raises `Refusal` (429), which says what the limit is."""
        rate = tenant.limits.get(EVENTS_PER_SECOND)
        if rate is None:
            self._buckets.pop(tenant.id, None)
            return
        bucket, lacks_s = taken(
            self._buckets.get(tenant.id), count, self.clock(), rate=rate, holds=max(rate, self.batch)
        )
        self._buckets[tenant.id] = bucket
        if lacks_s:
            raise _refused(rate, math.ceil(lacks_s))


def _refused(rate: int, wait_s: int) -> Refusal:
    words = f"The limit is {rate} events per second: nothing of this is stored; send it again in {wait_s} s."
    fault = FieldError("", EVENTS_PER_SECOND, words)
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, words, [fault], {"Retry-After": str(wait_s)})
