"""Plans of replays: what one would send, counted without writing anything; told as one object, or step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pipeline.api.log.shown import written
from pipeline.api.problems import Problem, Refusal
from pipeline.api.progress import HEADERS, MEDIA_TYPE, event
from pipeline.api.standing import GapOut, SpanOut, gap_out, span_out
from pipeline.errors import Unreachable
from pipeline.flow.replay import DEFAULT_RATE, Replay
from pipeline.flow.window import Asked, Gap, Window
from pipeline.workers.planning import Plan, Seen

PER_TENANT, AT_ONCE = 1, 2
"""Plans that are made at the same time: of one tenant (or of all), and in this process."""
BEAT_S = 1.0
"""So often at least it is told how far a plan has come, so that nobody on the way takes the silence for the end."""
_ROOM_S = "5"
_BUSY = "Too many plans are being made: try again when one of them is there."

Told = Callable[[Seen], None]
"""Hears how far a plan is."""

PLAN_STREAM = {
    "description": "A dry run: what would be sent; as an event stream also how far the counting is.",
    "content": {
        MEDIA_TYPE: {
            "schema": {"type": "string"},
            "example": 'event: progress\ndata: {"scanned":1000,"of":5000,"seconds":0.5}\n\n',
        }
    },
}
"""For the OpenAPI document: `progress` events as they come, in the end one `plan`, or a `problem`."""


class PlanOut(BaseModel):
    """What a replay would send. Nothing has been written."""

    tenant: str | None
    window: list[SpanOut]
    scanned: int = Field(description="Records of the window that were looked at.")
    events: int = Field(description="Those that are sent to anybody.")
    deliveries: int
    by_type: dict[str, int] = Field(description="Deliveries by event type.")
    by_webhook: dict[str, int] = Field(
        description="Deliveries by `tenant/webhook`.", examples=[{"acme/wh_4fQ2xT9bLmZaR7cVnKpW1s": 2}]
    )
    bytes: int = Field(description="Of the events' records, once for each delivery.")
    oldest_at: str | None = Field(description="Of what is sent.")
    newest_at: str | None
    gap: GapOut | None = Field(description="What retention has taken of the window; null: nothing.")
    again: int | None = Field(
        description="Deliveries of events that their webhook has had before; null while the delivery log does not say."
    )
    unreadable: int = Field(description="Records that cannot be read.")
    duration_s: float = Field(description="How long it takes at the rates in force.")
    rate: float = Field(description="Deliveries a second at most.")


class Planning(BaseModel):
    """How far a plan is."""

    scanned: int
    of: int
    seconds: float


class Plans:
    """Makes plans, a few at a time: each reads a whole window.

    `resolve` finds the offsets of a window of a topic; `count` reads it as that order's.
    """

    def __init__(
        self,
        resolve: Callable[[str, Asked], Awaitable[Window]],
        count: Callable[[Replay, Gap | None, Told], Awaitable[Plan]],
    ) -> None:
        self.resolve, self._count = resolve, count
        self._made: Counter[str | None] = Counter()

    def require_room(self, tenant: str | None) -> None:
        """Raise `Refusal` (429) while too many plans are made."""
        if self._made[tenant] >= PER_TENANT or self._made.total() >= AT_ONCE:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, headers={"Retry-After": _ROOM_S})

    async def make(self, order: Replay, gap: Gap | None, told: Told) -> Plan:
        """What the order would send. Raises `Refusal` (429), and `Unreachable`."""
        self.require_room(order.tenant)
        self._made[order.tenant] += 1
        try:
            return await self._count(order, gap, told)
        finally:
            self._made[order.tenant] -= 1
            self._made += Counter()  # without those that have none


def plan_out(order: Replay, made: Plan) -> PlanOut:
    """A plan as clients see it."""
    return PlanOut(
        tenant=order.tenant,
        window=[span_out(span) for span in order.window],
        scanned=made.scanned,
        events=made.events,
        deliveries=made.deliveries,
        by_type=dict(made.by_type),
        by_webhook=dict(made.by_webhook),
        bytes=made.bytes,
        oldest_at=_time(made.oldest_ms),
        newest_at=_time(made.newest_ms),
        gap=gap_out(made.gap),
        again=made.again,
        unreadable=made.unreadable,
        duration_s=made.duration_s,
        rate=order.rate or DEFAULT_RATE,
    )


def streamed(plans: Plans, order: Replay, gap: Gap | None) -> StreamingResponse:
    """A plan while it is made: `progress` events, in the end one `plan`, or a `problem`."""
    return StreamingResponse(_events(plans, order, gap), media_type=MEDIA_TYPE, headers=HEADERS)


async def _events(plans: Plans, order: Replay, gap: Gap | None) -> AsyncIterator[bytes]:
    newest = Planning(scanned=0, of=0, seconds=0.0)
    told = asyncio.Event()

    def hear(seen: Seen) -> None:
        nonlocal newest
        newest = Planning(scanned=seen.scanned, of=seen.of, seconds=round(seen.seconds, 1))
        told.set()

    planning = asyncio.create_task(plans.make(order, gap, hear))
    planning.add_done_callback(lambda _: told.set())
    try:
        while not planning.done():
            yield event("progress", newest)
            told.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), BEAT_S)
        yield _end(order, planning)
    finally:
        planning.cancel()  # whoever asked has gone


def _end(order: Replay, planning: asyncio.Task[Plan]) -> bytes:
    try:
        return event("plan", plan_out(order, planning.result()))
    except Refusal as refusal:
        return event("problem", _problem(refusal.status, str(refusal)))
    except Unreachable as error:
        return event("problem", _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))


def _problem(status: int, detail: str) -> Problem:
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else written(time_ms)
