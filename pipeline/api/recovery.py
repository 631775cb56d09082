"""Recovering a webhook: a replay, to it alone, of what it has missed since a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import Strict, read_time, written_time
from pipeline.api.log.sending import require_active
from pipeline.api.replays import accepted, ordered, replay_id, window_of
from pipeline.api.standing import GapOut, gap_out
from pipeline.flow.replay import Ordered, Outcome, Replay
from pipeline.flow.window import Asked, Gap
from pipeline.kafka.topics import EVENTS


class RecoverIn(Strict):
    """Since when; a dry run only counts."""

    since: Annotated[str, StringConstraints(max_length=64)] = Field(examples=["2026-01-31T12:00:00Z"])
    dry_run: bool = False


class Counts(BaseModel):
    """How many, in all and by event type."""

    count: int
    by_type: dict[str, int]


class Recovered(BaseModel):
    """What would be sent."""

    since: str
    dry_run: bool
    failed: Counts = Field(description="Events of which no delivery has arrived and one has failed.")
    cancelled: Counts = Field(description="Those whose deliveries were cancelled or skipped.")
    unrouted: Counts = Field(description="Those that were never routed to the webhook.")
    gap: GapOut | None = Field(description="What retention has taken since then; null: nothing.")


async def recover(tenant: str, webhook: str, body: RecoverIn, who: PrincipalOf, deps: DepsOf) -> Response:
    """Send a webhook what it has missed since a time: what failed, was cancelled or skipped, or was never routed.

    It is a replay with the outcome `missed`: events are matched and rendered as they would be now, and what has been
    delivered or is under way is left alone. A dry run counts (200). 409 while another one is sending the same.
    """
    held, since_ms = deps.webhook(tenant, webhook), read_time(body.since, "/since")
    await require_active(deps, tenant, held)
    window = await window_of(deps, EVENTS, Asked(since_ms, routed=True), tenant, "/since")
    order = Replay(
        replay_id(),
        tenant,
        Ordered.RUNNING,
        window.spans,
        webhooks=(webhook,),
        outcome=Outcome.MISSED,
        from_ms=since_ms,
    )
    if body.dry_run:
        return JSONResponse((await _counted(deps, order, window.gap, since_ms)).model_dump(by_alias=True))
    order = await ordered(deps, who, order, detail=f"webhook {webhook} since {written_time(since_ms)}")
    return accepted(deps, order, window.gap)


async def _counted(deps: Deps, order: Replay, gap: Gap | None, since_ms: int) -> Recovered:
    made = await deps.plans.make(order, gap, lambda _seen: None)
    return Recovered(
        since=written_time(since_ms),
        dry_run=True,
        failed=_counts(made.by_outcome.get(Outcome.FAILED, {})),
        cancelled=_counts(made.by_outcome.get(Outcome.SKIPPED, {})),
        unrouted=_counts(made.by_outcome.get(Outcome.NEVER_ROUTED, {})),
        gap=gap_out(made.gap),
    )


def _counts(types: Mapping[str, int]) -> Counts:
    return Counts(count=sum(types.values()), by_type=dict(types))
