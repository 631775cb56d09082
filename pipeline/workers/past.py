"""What the delivery log tells a replay's plan: what became of events, and what a webhook would get again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from pipeline.errors import Unreachable
from pipeline.flow.event import Event
from pipeline.flow.history import Status
from pipeline.flow.replay import Outcome, Replay, Span
from pipeline.workers.outcomes import outcome_of, wanted
from pipeline.workers.sifting import Tally

_LATE_MS = 3_600_000
"""A delivery is looked for from so long before its event on: producers' clocks differ."""

T = TypeVar("T")
Pair = tuple[str, str]
"""Tenant and event type."""
Statuses = tuple[Status, ...]
Known = Mapping[tuple[str, str, str], Statuses]
"""By tenant, event and webhook."""


class Past(Protocol):
    """What the log is asked (`pipeline.store.log.DeliveryLog`)."""

    def outcomes(
        self, tenant: str, events: Sequence[str], apart_from: str | None = None
    ) -> Sequence[tuple[str, str, Statuses]]:
        """Event, webhook, and how the deliveries stand; nothing where there are none."""

    def delivered(
        self, tenant: str, window: Sequence[Span], since_ms: int, webhooks: Sequence[str] = ()
    ) -> Sequence[tuple[str, str, int]]:
        """Webhook, type, and how many events of the window it has had."""


class Log(Protocol):
    """Asks the delivery log."""

    def ask(self, question: Callable[[Past], T]) -> Awaitable[T]:
        """What it answers. Raises `Unreachable`."""


@dataclass(slots=True)
class Had:
    """What the webhooks of an order have had. `again` counts what they would get once more; None: that is not known.

    Where an outcome is asked for, nothing of it has been delivered; nor has an endpoint that is the replay's own.
    """

    log: Log
    order: Replay
    again: int | None = 0
    by_outcome: dict[Outcome, Counter[str]] = field(default_factory=dict)
    """Of deliveries, by type; where an outcome is asked for."""

    async def known(self, events: Iterable[Event]) -> Known:
        """How their deliveries stand, as far as anything depends on it. Raises `Unreachable` where an outcome does."""
        ids: dict[str, list[str]] = {}
        for event in events if self._matters else ():
            ids.setdefault(event.tenant, []).append(event.id)
        return {
            (tenant, event, webhook): statuses
            for tenant, named in ids.items()
            for event, webhook, statuses in await self._outcomes(tenant, named)
        }

    def chosen(self, event: Event, webhooks: Iterable[str], known: Known) -> list[str]:
        """To which of these webhooks the event goes."""
        held = {webhook: known.get((event.tenant, event.id, webhook), ()) for webhook in webhooks}
        outcomes = {webhook: outcome_of(statuses) for webhook, statuses in held.items()}
        to = [webhook for webhook, outcome in outcomes.items() if wanted(self.order.outcome, outcome)]
        for outcome in (outcomes[webhook] for webhook in to if self.order.outcome is not Outcome.ALL):
            self.by_outcome.setdefault(outcome or Outcome.ALL, Counter())[event.type] += 1
        if self.again is not None:
            self.again += sum(Status.DELIVERED in held[webhook] for webhook in to)
        return to

    async def add_counted(self, tallies: Mapping[Pair, Tally], wanting: Mapping[Pair, tuple[str, ...]]) -> None:
        """What was counted without a look at any event: the log tells by places, types and webhooks."""
        oldest_ms = min((tally.oldest_ms for tally in tallies.values()), default=0)
        for tenant in {tenant for tenant, _ in tallies}:
            if not self._matters:
                return
            found = await self._delivered(tenant, oldest_ms - _LATE_MS)
            for webhook, kind, number in found:
                if self.again is not None and (tenant, kind) in tallies and webhook in wanting[tenant, kind]:
                    self.again += number

    @property
    def _matters(self) -> bool:
        """Whether the log is to be asked at all: not once it did not answer, if only `again` depends on it."""
        return self.order.outcome is not Outcome.ALL or (self.order.target_url is None and self.again is not None)

    async def _outcomes(self, tenant: str, events: list[str]) -> Sequence[tuple[str, str, Statuses]]:
        try:
            return await self.log.ask(lambda log: log.outcomes(tenant, events, self.order.id))
        except Unreachable:
            if self.order.outcome is not Outcome.ALL:
                raise
            self.again = None
            return ()

    async def _delivered(self, tenant: str, since_ms: int) -> Sequence[tuple[str, str, int]]:
        asked = partial(_had, tenant, self.order, since_ms)
        try:
            return await self.log.ask(asked)
        except Unreachable:
            self.again = None
            return ()


def _had(tenant: str, order: Replay, since_ms: int, log: Past) -> Sequence[tuple[str, str, int]]:
    return log.delivered(tenant, order.window, since_ms, order.webhooks)
