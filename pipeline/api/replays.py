"""Replays: a window of the log delivered again, to whom you like, as the webhooks are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import JSONResponse, Response

from pipeline.api import targets
from pipeline.api.auth import PrincipalOf, require_own
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.drafts import Owner
from pipeline.api.ids import base62
from pipeline.api.lists import ListOf, WindowOf, cursor
from pipeline.api.ordering import ReplayIn, asked, judge, require_records, require_room
from pipeline.api.planning import plan_out, streamed
from pipeline.api.problems import FieldError, Refusal, invalid, not_found
from pipeline.api.progress import wants_stream
from pipeline.api.roles import Principal
from pipeline.api.standing import ReplayDetail, ReplayOut, ReplayStarted, gap_out, replay_out
from pipeline.errors import Unreachable, UsageError
from pipeline.flow.replay import OVER, Ordered, Outcome, Replay
from pipeline.flow.window import Asked, Empty, Gap, Window
from pipeline.kafka.changes import PLATFORM, Change
from pipeline.kafka.topics import EVENTS

_ID_LENGTH = 22


async def create(body: ReplayIn, request: Request, who: PrincipalOf, deps: DepsOf) -> Response:
    """Deliver events again: a window of the log, matched against the webhooks as they are now.

    Each is a new delivery; its request names the replay (`webhook-replay-id`) and the first delivery of the event to
    that webhook (`webhook-first-id`). A dry run counts what would be sent and writes nothing (200); asked for as
    `text/event-stream` it tells how far it is. 409 for a webhook that is not active.
    """
    tenant = _whose(body.tenant, who, deps)
    wanted = asked(body)
    await judge(deps, tenant, body)
    window = await window_of(deps, EVENTS, wanted, tenant, "/offsets" if wanted.offsets else "/from")
    order, endpoint = _targeted(body, _order(body, wanted, window, tenant), deps)
    if body.dry_run:
        return await planned(deps, order, window.gap, request)
    given = sorted(body.model_dump(by_alias=True, exclude_unset=True, exclude={"tenant", "dry_run"}))
    order = await ordered(deps, who, order, *([endpoint.held] if endpoint else []), detail=", ".join(given))
    return accepted(deps, order, window.gap, endpoint.generated if endpoint else None)


async def listed(
    window: WindowOf,
    who: PrincipalOf,
    deps: DepsOf,
    tenant: Annotated[str | None, Query(description="Only of this tenant's events.", max_length=64)] = None,
) -> ListOf[ReplayOut]:
    """Replays, newest first, redrives of dead letters too: your tenant's; a platform's admin sees all."""
    whose = _whose(tenant, who, deps)
    page = deps.replays.replays(whose, window.after, window.limit)
    seen = [one for one in page.items if _is_of_now(one, deps)]
    await deps.replays.learn([one.id for one in seen])
    return ListOf(items=[_shown(deps, one) for one in seen], next=cursor(page.next))


async def show(replay: str, who: PrincipalOf, deps: DepsOf) -> ReplayDetail:
    """One replay: what was ordered, how far it is, and what became of its deliveries."""
    order = _found(replay, who, deps)
    await deps.replays.learn([replay])
    statuses: dict[str, int] | None = None
    note: str | None = None
    try:
        statuses = {status.value: number for status, number in (await deps.statuses.of(replay)).items()}
    except Unreachable as error:  # how far it is is worth showing
        note = str(error)
    return ReplayDetail(**_shown(deps, order).model_dump(), statuses=statuses, statuses_note=note)


async def pause(replay: str, who: PrincipalOf, deps: DepsOf) -> ReplayOut:
    """Stop for now. What has been written already still goes: a few seconds of it."""
    return await _switch(replay, who, deps, Ordered.PAUSED)


async def resume(replay: str, who: PrincipalOf, deps: DepsOf) -> ReplayOut:
    """Go on where it was paused."""
    return await _switch(replay, who, deps, Ordered.RUNNING)


async def cancel(replay: str, who: PrincipalOf, deps: DepsOf) -> ReplayOut:
    """Stop for good. What has not been sent yet is not sent any more, also of one that has written all."""
    return await _switch(replay, who, deps, Ordered.CANCELLED)


async def window_of(deps: Deps, topic: str, wanted: Asked, tenant: str | None, where: str) -> Window:
    """The offsets that are asked for; what came before the tenant was made, an earlier one's of its id, is left out.

    Raises `Refusal` (422), naming this field, where there is nothing, and `Unreachable`.
    """
    since_ms = 0 if tenant is None else deps.tenant(tenant).created_ms
    if not wanted.offsets:
        wanted = replace(wanted, from_ms=max(since_ms, wanted.from_ms or 0))
    try:
        window = await deps.plans.resolve(topic, wanted)
        if wanted.offsets and since_ms:
            window = _clipped(window, await deps.plans.resolve(topic, Asked(since_ms)))
    except UsageError as error:  # there is no such partition
        raise invalid([FieldError(where, "partition", str(error))]) from error
    require_records(window, where)
    return window


async def planned(deps: Deps, order: Replay, gap: Gap | None, request: Request) -> Response:
    """What the order would send, as one object or, where that is asked for, step by step. Raises `Refusal` (429)."""
    deps.plans.require_room(order.tenant)
    if wants_stream(request):
        return streamed(deps.plans, order, gap)
    made = await deps.plans.make(order, gap, lambda _seen: None)
    return JSONResponse(plan_out(order, made).model_dump(by_alias=True))


async def ordered(deps: Deps, who: Principal, order: Replay, *changes: Change, detail: str = "") -> Replay:
    """Write the order, with what it needs, and who gave it; as it is written, at this time.

    Raises `Refusal` (404, 409), and `Unreachable`.
    """
    async with deps.control.hold(order.tenant or PLATFORM):
        if order.tenant is not None:
            deps.tenant(order.tenant)
        require_room(deps, order)
        now, old = deps.clock(), targets.swept(deps, order.tenant)
        order = replace(order, by=who.key, created_ms=now, updated_ms=now)
        await deps.write(who, order.tenant, order.id, order, *changes, *old, detail=detail)
    return order


def accepted(deps: Deps, order: Replay, gap: Gap | None, generated: Mapping[str, str] | None = None) -> Response:
    """202 with the replay that has just been ordered; secrets that were generated for it are shown this once."""
    made = ReplayStarted(**_shown(deps, order, generated).model_dump(), gap=gap_out(gap))
    return JSONResponse(made.model_dump(by_alias=True), HTTPStatus.ACCEPTED)


def replay_id() -> str:
    """An id for a new one."""
    return "rpl_" + base62(_ID_LENGTH)


def _whose(tenant: str | None, who: Principal, deps: Deps) -> str | None:
    """The tenant that is meant; None: all. Raises `Refusal` (404)."""
    if tenant is not None:
        require_own(who, tenant, "tenant")
        deps.tenant(tenant)
    return tenant or who.tenant


def _order(body: ReplayIn, wanted: Asked, window: Window, tenant: str | None) -> Replay:
    return Replay(
        replay_id(),
        tenant,
        Ordered.RUNNING,
        window.spans,
        tuple(dict.fromkeys(body.types or ())),
        tuple(dict.fromkeys(body.webhooks or ())),
        Outcome(body.outcome),
        rate=body.rate,
        from_ms=wanted.from_ms,
        to_ms=wanted.to_ms,
    )


def _targeted(body: ReplayIn, order: Replay, deps: Deps) -> tuple[Replay, targets.Made | None]:
    """The order with the endpoint that is given for it alone."""
    if body.target is None or order.tenant is None:
        return order, None
    made = targets.made(deps, Owner.of(deps, order.tenant), body.target, order.id)
    return replace(order, webhooks=(made.held.webhook,), target_url=made.held.url), made


def _clipped(window: Window, since: Window) -> Window:
    """What of the window lies in the other, too."""
    begins = {span.partition: span.start for span in since.spans}
    there = [replace(s, start=max(s.start, begins[s.partition])) for s in window.spans if s.partition in begins]
    spans = tuple(span for span in there if span.start < span.end)
    return replace(window, spans=spans, empty=window.empty if spans else window.empty or Empty.NOTHING)


async def _switch(replay: str, who: Principal, deps: Deps, wanted: Ordered) -> ReplayOut:
    await deps.replays.learn([replay])
    tenant = _found(replay, who, deps).tenant
    async with deps.control.hold(tenant or PLATFORM):
        held = _found(replay, who, deps)
        if held.ordered is not wanted:
            _require_open(held, deps, wanted)
            held = replace(held, ordered=wanted, updated_ms=deps.clock())
            endpoint = targets.removed(deps, held) if wanted is Ordered.CANCELLED else ()
            await deps.write(who, tenant, replay, held, *endpoint)
    return _shown(deps, held)


def _require_open(held: Replay, deps: Deps, wanted: Ordered) -> None:
    """Raise `Refusal` (409) for a replay that never goes on; one that has written all may be cancelled still."""
    told = deps.replays.progress(held.id)
    if held.ordered is Ordered.CANCELLED:
        raise Refusal(HTTPStatus.CONFLICT, "The replay has been cancelled: order another one.")
    if wanted is not Ordered.CANCELLED and told is not None and told.state in OVER:
        raise Refusal(HTTPStatus.CONFLICT, f"The replay has ended: it is {told.state}.")


def _found(replay: str, who: Principal, deps: Deps) -> Replay:
    """The order, where it may be seen. Raises `Refusal` (404)."""
    found = deps.replays.replay(replay)
    if found is None or not _is_of_now(found, deps):
        raise not_found("replay")
    require_own(who, found.tenant, "replay")
    return found


def _is_of_now(order: Replay, deps: Deps) -> bool:
    """Whether it is of no earlier tenant that had the same id."""
    owner = None if order.tenant is None else deps.directory.tenant(order.tenant)
    return order.tenant is None or (owner is not None and owner.created_ms <= order.created_ms)


def _shown(deps: Deps, order: Replay, generated: Mapping[str, str] | None = None) -> ReplayOut:
    told, lately = deps.replays.progress(order.id), deps.replays.lately(order.id)
    return replay_out(order, told, lately, targets.shown(deps, order, generated))
