"""What a replay's plan counts, and how long the replay would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from pipeline.flow.pace import LEAST, PART
from pipeline.flow.replay import DEFAULT_RATE, Outcome
from pipeline.flow.window import Gap
from pipeline.workers.sifting import Tally

Rate = Callable[[str, str], float | None]
"""Of a tenant's webhook: how many requests a second it may get; None: any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would send. Times are milliseconds since the epoch.

    `scanned` records were looked at; `events` are those that anybody gets, by type too. `deliveries` are by type and by
    webhook (`tenant/webhook`); `bytes` are those of the events' records, once for each delivery, and `oldest_ms` and
    `newest_ms` their times. `again` are the deliveries of events that have been delivered there before; None: the
    delivery log did not say. `unreadable` are the records that nothing can be made of, or not for all webhooks.
    `duration_s` is at the rates in force, once the replay has come up to them. `by_outcome` has the deliveries by type,
    where an outcome is asked for.
    """

    scanned: int
    events: int
    deliveries: int
    by_type: Mapping[str, int]
    events_by_type: Mapping[str, int]
    by_webhook: Mapping[str, int]
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None
    again: int | None
    unreadable: int
    duration_s: float
    gap: Gap | None = None
    by_outcome: Mapping[Outcome, Mapping[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Count:
    """Events and deliveries, as they are counted."""

    events: Counter[str] = field(default_factory=Counter)
    """By type, as the deliveries `by_type`."""
    by_type: Counter[str] = field(default_factory=Counter)
    by_webhook: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None
    unreadable: int = 0

    def add(self, tenant: str, event_type: str, webhooks: Collection[str], tally: Tally) -> None:
        """These events, each for all of these webhooks."""
        if not webhooks:
            return
        self.events[event_type] += tally.events
        self.by_type[event_type] += tally.events * len(webhooks)
        self.by_webhook.update({f"{tenant}/{webhook}": tally.events for webhook in webhooks})
        self.bytes += tally.bytes * len(webhooks)
        self.oldest_ms = tally.oldest_ms if self.oldest_ms is None else min(self.oldest_ms, tally.oldest_ms)
        self.newest_ms = tally.newest_ms if self.newest_ms is None else max(self.newest_ms, tally.newest_ms)

    def plan(
        self,
        scanned: int,
        again: int | None,
        duration_s: float,
        gap: Gap | None,
        by_outcome: Mapping[Outcome, Mapping[str, int]] | None = None,
    ) -> Plan:
        """All of it."""
        return Plan(
            scanned,
            self.events.total(),
            self.by_type.total(),
            self.by_type,
            self.events,
            self.by_webhook,
            self.bytes,
            self.oldest_ms,
            self.newest_ms,
            again,
            self.unreadable,
            duration_s,
            gap,
            by_outcome or {},
        )


def duration_s(by_webhook: Mapping[str, int], rate: float | None, most: Rate) -> float:
    """How long so many deliveries take at the replay's rate, and none of the webhooks gets more than its part.

    As `flow.pace` has it: one that takes hardly any gets the least all the same.
    """
    times = [sum(by_webhook.values()) / (rate or DEFAULT_RATE)]
    for path, deliveries in by_webhook.items():
        tenant, _, webhook = path.partition("/")
        if (own := most(tenant, webhook)) is not None:
            times.append(deliveries / max(own * PART, LEAST))
    return round(max(times), 1)
