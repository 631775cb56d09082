"""Bringing back many dead letters: an order, as for a replay, over those that wait and fit."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import MAX_LIMIT, Id, Strict
from pipeline.api.log.letters import narrowed
from pipeline.api.log.narrowing import span
from pipeline.api.log.sending import require_active
from pipeline.api.log.shown import written
from pipeline.api.problems import FieldError, Refusal, invalid
from pipeline.api.replays import accepted, ordered, replay_id
from pipeline.flow.deadletter import LetterState, Reason
from pipeline.flow.event import TYPE_CHARACTERS
from pipeline.flow.replay import DEFAULT_RATE, LEAST_RATE, MOST_RATE, Ordered, Replay, Source
from pipeline.flow.window import Asked
from pipeline.kafka.topics import DEAD_LETTERS
from pipeline.store.log import DeadFilter, Group

_SLACK_MS = 60_000
"""A letter says when it was made; its record's time is a little later, or earlier where clocks differ."""
_GONE = "The letters themselves are gone: retention has taken them."
_When = Annotated[str, StringConstraints(max_length=64)]


class RedriveIn(Strict):
    """Which of the dead letters that wait: what is not given does not narrow."""

    tenant: Id | None = Field(default=None, description="Only this tenant's.")
    webhook: Id | None = Field(default=None, description="Only this webhook's.")
    reason: Annotated[Reason, Field(strict=False)] | None = Field(default=None, description="For this reason.")
    type: Annotated[str, StringConstraints(max_length=TYPE_CHARACTERS)] | None = Field(
        default=None, description="Of this event type."
    )
    from_: _When | None = Field(
        default=None,
        alias="from",
        description="Made at this time (RFC 3339) or later.",
        examples=["2026-01-31T12:00:00Z"],
    )
    to: _When | None = Field(default=None, description="Made before this time.")
    rate: Annotated[float, Field(ge=LEAST_RATE, le=MOST_RATE)] | None = Field(
        default=None, description=f"Deliveries a second at most; {DEFAULT_RATE:g}, when it is missing."
    )
    dry_run: bool = Field(default=False, description="Count, and write nothing.")


class RedrivePlan(BaseModel):
    """What a redrive would bring back: the letters that wait and fit. Nothing has been written."""

    letters: int
    by_reason: dict[str, int]
    by_webhook: dict[str, int] = Field(
        description="By `tenant/webhook`, the 200 with the most; those alone that had a delivery.",
        examples=[{"acme/wh_4fQ2xT9bLmZaR7cVnKpW1s": 2}],
    )
    by_type: dict[str, int]
    oldest_at: str | None
    newest_at: str | None
    rate: float = Field(description="Deliveries a second at most.")
    duration_s: float = Field(description="How long it takes at that rate.")


async def redrive(body: RedriveIn, who: PrincipalOf, deps: DepsOf) -> Response:
    """Bring back all dead letters that wait and fit: an order, followed, paused and cancelled as a replay is.

    Each is looked at when its turn comes: one that has been redriven or discarded by then is left alone. A dry run
    counts and writes nothing (200). 409 where nothing fits, and while another redrive may be at the same letters.
    """
    wanted = narrowed(_filter(body), who, deps)
    if wanted.tenant is not None and wanted.webhook is not None:
        await require_active(deps, wanted.tenant, deps.directory.webhook(wanted.tenant, wanted.webhook))
    plan = await _plan(deps, wanted, body.rate or DEFAULT_RATE)
    if body.dry_run:
        return JSONResponse(plan.model_dump())
    if not plan.letters:
        raise Refusal(HTTPStatus.CONFLICT, "No dead letter waits that fits: list them to see how they stand.")
    order = await _order(deps, wanted, body.rate)
    given = sorted(body.model_dump(by_alias=True, exclude_unset=True, exclude={"tenant", "dry_run"}))
    return accepted(deps, await ordered(deps, who, order, detail=", ".join(given)), None)


def _filter(body: RedriveIn) -> DeadFilter:
    from_ms, to_ms = span(body.from_, body.to)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise invalid([FieldError("/to", "window", "The window is empty: `to` must be later than `from`")])
    named = body.tenant, body.webhook, body.reason and body.reason.value, body.type
    return DeadFilter(*named, from_ms, to_ms, LetterState.WAITING)


async def _plan(deps: Deps, wanted: DeadFilter, rate: float) -> RedrivePlan:
    counted = {
        group: await deps.log.ask(lambda log, group=group: log.dead_counts(wanted, group, MAX_LIMIT))  # type: ignore[misc]
        for group in (Group.REASON, Group.WEBHOOK, Group.TYPE)
    }
    total, reasons = counted[Group.REASON]
    return RedrivePlan(
        letters=total,
        by_reason={str(one.value): one.number for one in reasons},
        by_webhook={f"{one.tenant}/{one.value}": one.number for one in counted[Group.WEBHOOK][1] if one.value},
        by_type={one.value: one.number for one in counted[Group.TYPE][1] if one.value is not None},
        oldest_at=written(min(one.oldest_ms for one in reasons)) if reasons else None,
        newest_at=written(max(one.newest_ms for one in reasons)) if reasons else None,
        rate=rate,
        duration_s=round(total / rate, 1),
    )


async def _order(deps: Deps, wanted: DeadFilter, rate: float | None) -> Replay:
    """Its window is where such letters may lie now. Raises `Refusal` (409) for none of it, and `Unreachable`."""
    since_ms = None if wanted.from_ms is None else max(wanted.from_ms - _SLACK_MS, 0)
    window = await deps.plans.resolve(DEAD_LETTERS, Asked(since_ms))
    if not window.spans:
        raise Refusal(HTTPStatus.CONFLICT, _GONE)
    return Replay(
        replay_id(),
        wanted.tenant,
        Ordered.RUNNING,
        window.spans,
        types=_alone(wanted.type),
        webhooks=_alone(wanted.webhook),
        reasons=_alone(wanted.reason),
        rate=rate,
        source=Source.DEAD_LETTERS,
        from_ms=wanted.from_ms,
        to_ms=wanted.to_ms,
    )


def _alone(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)
