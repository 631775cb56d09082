"""Deliveries: listed, shown, sent again, stopped."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import ListOf, WindowOf, cursor, written_time
from pipeline.api.log.narrowing import DeliveryFilterOf
from pipeline.api.log.sending import (
    BODY_GONE,
    hand_over,
    in_fresh_round,
    may_be_sent,
    recorded,
    require_active,
    require_unordered,
)
from pipeline.api.log.shown import DeliveryDetail, DeliveryOut, delivery_detail, delivery_out
from pipeline.api.problems import Refusal, not_found
from pipeline.errors import Unreachable
from pipeline.flow.cancels import Cancel
from pipeline.flow.deliver import Delivery
from pipeline.flow.history import ENDED
from pipeline.flow.isolation import LONGEST_MS
from pipeline.kafka.changes import Forgotten
from pipeline.kafka.topics import CANCELS
from pipeline.store.log import DeliveryRow

Ident = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]*$", description="The delivery's id.")]


class Redelivered(BaseModel):
    """A delivery that is sent again: the same `webhook-id`, the same body."""

    id: str
    round: str = Field(description="Its attempts have this round.")


class Cancelled(BaseModel):
    """A delivery that is not tried any more."""

    id: str
    round: str
    ends_by: str = Field(description="It is `cancelled` in the log by then, unless a request was under way.")
    message: str


async def listed(tenant: str, wanted: DeliveryFilterOf, window: WindowOf, deps: DepsOf) -> ListOf[DeliveryOut]:
    """The tenant's deliveries, newest first. What has just happened is there a moment later."""
    deps.tenant(tenant)
    page = await deps.log.ask(lambda log: log.deliveries(tenant, wanted, window.after, window.limit))
    return ListOf(items=[delivery_out(row) for row in page.items], next=cursor(page.next))


async def show(tenant: str, delivery: Ident, deps: DepsOf) -> DeliveryDetail:
    """One delivery with its attempts and its body."""
    row = await _row(deps, tenant, delivery)
    attempts = await deps.log.ask(lambda log: log.attempts(tenant, delivery))
    try:
        body, note = _text(await _of(deps, row))
    except Unreachable as error:  # what the log has is worth showing
        body, note = None, str(error)
    return delivery_detail(row, attempts, body, note)


async def redeliver(tenant: str, delivery: Ident, who: PrincipalOf, deps: DepsOf) -> Redelivered:
    """Send a delivery again that has ended: the same id and the same bytes, from its first attempt on.

    409 while it has not ended or an order is redriving its dead letter, while its webhook is not active, and when
    retention has taken its body.
    """
    async with deps.issued.hold(delivery):
        row = await _row(deps, tenant, delivery)
        may_be_sent(deps, row)
        await require_active(deps, tenant, deps.directory.webhook(tenant, row.webhook))
        held = await _of(deps, row)
        if held is None:
            raise Refusal(HTTPStatus.CONFLICT, BODY_GONE)
        await require_unordered(deps, tenant, delivery)
        round_, record = in_fresh_round(deps, row, held)
        forgotten = [Forgotten(CANCELS, delivery)] if deps.cancels.of(delivery) is not None else []
        await deps.write(who, tenant, delivery, *forgotten)
        await hand_over(deps, [(delivery, round_)], [record])
    return Redelivered(id=delivery, round=round_)


async def cancel(tenant: str, delivery: Ident, who: PrincipalOf, deps: DepsOf) -> Cancelled:
    """Stop a delivery: it is not tried any more. A request under way is not cut.

    What waits for its next attempt is looked at when its wait is over; then it ends with verdict `skipped`.
    """
    async with deps.issued.hold(delivery):
        row = await _row(deps, tenant, delivery)
        given = deps.issued.newer(row.id, row.round)
        if given is None and row.status in ENDED:
            raise Refusal(HTTPStatus.CONFLICT, f"The delivery has ended: it is {row.status}.")
        now, round_ = deps.clock(), row.round if given is None else given
        async with deps.control.hold(tenant):
            await deps.write(who, tenant, delivery, Cancel(delivery, round_, tenant, who.key, now))
    waits = row.next_ms is not None and row.next_ms > now and given is None
    ends_by = written_time((row.next_ms or 0) if waits else now + LONGEST_MS)
    return Cancelled(id=delivery, round=round_, ends_by=ends_by, message=_said(ends_by, waits=waits))


def _said(ends_by: str, *, waits: bool) -> str:
    if waits:
        return f"No further attempt is made. It waits for its next one until {ends_by}; then it ends as cancelled."
    return f"No further attempt is made. It ends as cancelled when its turn comes, by {ends_by}."


async def _row(deps: Deps, tenant: str, delivery: str) -> DeliveryRow:
    """Raises `Refusal` (404)."""
    deps.tenant(tenant)
    row = await deps.log.ask(lambda log: log.delivery(tenant, delivery))
    if row is None:
        raise not_found("delivery")
    return row


async def _of(deps: Deps, row: DeliveryRow) -> Delivery | None:
    """The delivery with its body; None when retention has taken it."""
    return (await recorded(deps, [row])).get(row.id)


def _text(held: Delivery | None) -> tuple[str | None, str | None]:
    if held is None:
        return None, BODY_GONE
    try:
        return held.body.decode(), None
    except UnicodeDecodeError:
        return None, f"The body is no text: it has {len(held.body)} bytes."
