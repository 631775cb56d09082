"""Recovering a webhook: what did not arrive since a time is sent again, what never was routed to it is routed now."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import DepsOf
from pipeline.api.lists import Strict, read_time, written_time
from pipeline.api.log.recovery import Found, Recovery
from pipeline.api.log.sending import require_active


class RecoverIn(Strict):
    """Since when; a dry run only counts."""

    since: Annotated[str, StringConstraints(max_length=64)] = Field(examples=["2026-01-31T12:00:00Z"])
    dry_run: bool = False


class Counts(BaseModel):
    """How many, in all and by event type."""

    count: int
    by_type: dict[str, int]


class Recovered(BaseModel):
    """What is sent, or would be in a dry run."""

    since: str
    dry_run: bool
    failed: Counts = Field(description="Deliveries that had failed, sent again.")
    cancelled: Counts = Field(description="Deliveries that were cancelled or skipped, sent again.")
    unrouted: Counts = Field(description="Events that were never routed to the webhook, routed now.")
    under_way: int = Field(description="Being sent again already: left alone.")
    gone: int = Field(description="Retention has taken the body or the event: they cannot be sent.")


async def recover(tenant: str, webhook: str, body: RecoverIn, who: PrincipalOf, deps: DepsOf) -> Response:
    """Send a webhook what it has missed since a time: failed, cancelled and skipped deliveries, and unrouted events.

    Events that were not routed to it because it was inactive, disabled, suspended or not there yet are matched and
    rendered as they would be now. At most 5,000 at a time: 422 where there are more. What is under way is left alone.
    """
    held, since_ms = deps.webhook(tenant, webhook), read_time(body.since, "/since")
    async with deps.issued.hold(held.path):
        await require_active(deps, tenant, held)
        recovery = Recovery(deps, tenant, webhook, dry_run=body.dry_run)
        found = await recovery.find(since_ms)
        if not body.dry_run:
            await deps.write(who, tenant, webhook, detail=f"since {written_time(since_ms)}")
        await recovery.carry_out(found)
    shown = _shown(found, since_ms, dry_run=body.dry_run)
    return JSONResponse(shown.model_dump(), HTTPStatus.OK if body.dry_run else HTTPStatus.ACCEPTED)


def _shown(found: Found, since_ms: int, *, dry_run: bool) -> Recovered:
    counted = {kind: Counts(count=types.total(), by_type=dict(types)) for kind, types in found.sent.items()}
    return Recovered(
        since=written_time(since_ms), dry_run=dry_run, **counted, under_way=found.under_way, gone=found.gone
    )
