"""What is left of a tenant that has been removed, and for how long: said where it is removed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pipeline.api.deps import Deps
from pipeline.errors import Unreachable
from pipeline.flow.retry import DEFAULT, Ladder
from pipeline.kafka import topics

_SECRETS = (
    "The tenant's own key is gone, and with it every secret of its webhooks: no record of them that still lies "
    "somewhere can be opened. The key's last record, sealed by the deployment's keys, goes with the next compaction of "
    "topic tenants, about a day after a later change."
)
_BODIES = "what was to be sent, with its body; nothing of it is sent any more"
_HELD = {
    topics.EVENTS: "events with their data, as they were sent",
    topics.DELIVERIES: _BODIES,
    topics.DEAD_LETTERS: "what could not be delivered, with its body",
    topics.ATTEMPTS: "headers of requests, secrets masked, and the beginnings of answers",
    topics.AUDIT: "who changed what and when, by ids alone",
}
_DAY_MS = 86_400_000


class Staying(BaseModel):
    """Records that stay until their topic's retention ends."""

    topic: str = Field(examples=["events"])
    holds: str
    days: int | None = Field(description="How long at most; null: as long as the deployment runs.")


class Erased(BaseModel):
    """A tenant that is no more: what went with it, and what stays for how long."""

    id: str
    webhooks: int = Field(description="Webhooks that were removed.")
    keys: int = Field(description="Keys of the API that open nothing any more.")
    rows: int | None = Field(
        description="Rows that the delivery log has lost; null: its database did not answer in time, so the recorder "
        "removes them as soon as it does."
    )
    secrets: str
    stays: list[Staying] = Field(description="By the policy that topics are made with; backups have their own.")


async def forgotten_rows(tenant: str, deps: Deps, before_ms: int) -> int | None:
    """Remove the tenant's rows of before that time; how many, None while that is not known."""
    try:
        return await deps.log.ask(lambda log: log.forget_tenant(tenant, before_ms))
    except Unreachable:
        return None


def erased(tenant: str, webhooks: int, keys: int, rows: int | None) -> Erased:
    """The answer to a removal."""
    return Erased(id=tenant, webhooks=webhooks, keys=keys, rows=rows, secrets=_SECRETS, stays=staying())


def staying() -> list[Staying]:
    """What stays, by the catalogue of topics."""
    days = {topic.name: _days(topic) for topic in topics.catalogue(Ladder.parse(DEFAULT))}
    days[topics.DELIVERIES] = days[topics.EVENTS]  # trimmed when they are past that age
    dated = [Staying(topic=name, holds=holds, days=days[name]) for name, holds in _HELD.items()]
    tiers = Staying(topic="retry-<wait>", holds=_BODIES, days=days[topics.EVENTS])
    states = Staying(
        topic=topics.ENDPOINT_STATE, holds="of each webhook its id, counts of failures and times", days=None
    )
    return [*dated[:2], tiers, *dated[2:], states]


def _days(topic: topics.Topic) -> int | None:
    retention_ms = int(topic.config.get("retention.ms", "-1"))
    return None if retention_ms < 0 else retention_ms // _DAY_MS
