"""Dead letters: listed, counted, shown, brought back one by one, discarded."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, Field

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.lists import MAX_LIMIT, ListOf, WindowOf, cursor
from pipeline.api.log.letters import (
    GONE,
    LetterCounts,
    LetterDetail,
    LetterFilterOf,
    LetterOut,
    count_out,
    letter_detail,
    letter_out,
    require_theirs,
)
from pipeline.api.log.sending import hand_over, may_be_sent, refuse_ordered, require_active
from pipeline.api.problems import Refusal
from pipeline.api.roles import Principal
from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.deadletter import DeadLetter, LetterState
from pipeline.flow.rounds import RANDOM_BYTES, fresh_round
from pipeline.kafka.changes import Forgotten
from pipeline.kafka.topics import CANCELS, DEAD_LETTERS
from pipeline.ports import Outgoing
from pipeline.store.log import DeadRow, DeliveryRow, Group
from pipeline.store.past import FlowPast
from pipeline.workers.carriage import of_headers
from pipeline.workers.dead import round_of
from pipeline.workers.redrive import Redrive, Unredrivable

Ident = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]*$", description="The dead letter's id.")]

_DISCARDED = "The dead letter has been discarded."
_UNDER_WAY = "The dead letter's delivery is being sent again already."
_SAID = "discarded"
"""What this process remembers of a letter until the log shows it."""
_NAMED = 5


class RedrivenLetter(BaseModel):
    """A dead letter that has been brought back."""

    id: str
    deliveries: list[str] = Field(description="What is sent: the delivery that ended here, or those of its event.")
    round: str = Field(description="Their attempts have this round; empty for a delivery that is sent the first time.")


async def listed(
    filtered: LetterFilterOf,
    window: WindowOf,
    deps: DepsOf,
    *,
    group_by: Annotated[Group | None, Query(description="Count them by this, in place of the list.")] = None,
) -> ListOf[LetterOut] | LetterCounts:
    """Dead letters, newest first, or how many there are of what: your tenant's; a platform's admin sees all.

    What has just happened is there a moment later. Counting takes as long as it takes to pass all that are counted.
    """
    if group_by is not None:
        total, groups = await deps.log.ask(lambda log: log.dead_counts(filtered, group_by, MAX_LIMIT))
        return LetterCounts(group_by=group_by, total=total, groups=list(map(count_out, groups)))
    page = await deps.log.ask(lambda log: log.dead(filtered, window.after, window.limit))
    return ListOf(items=[letter_out(row) for row in page.items], next=cursor(page.next))


async def show(letter: Ident, who: PrincipalOf, deps: DepsOf) -> LetterDetail:
    """One dead letter with its record, its delivery's body and its last attempt."""
    row, held, note = await _row(deps, letter, who), None, None
    try:
        held = await _held(deps, row)
    except (Unreachable, Refusal) as error:  # what the log has is worth showing
        note = str(error)
    return letter_detail(row, held, note)


async def redrive(letter: Ident, who: PrincipalOf, deps: DepsOf) -> RedrivenLetter:
    """Bring a dead letter back: its delivery goes again with the same id, or its event is routed as things are now.

    An event goes to those webhooks alone that have no delivery of it. 409 while it is under way, once it has been
    discarded, and where nothing can be made of it; the answer says why.
    """
    row = await _row(deps, letter, who)
    async with deps.issued.hold(row.seen.delivery or letter):
        row = await _row(deps, letter, who)
        _require_open(deps, row)
        held, logged = await _held(deps, row), await _delivery(deps, row)
        made = await _redrive(deps)(held, _fresh_round(deps, held, logged))
        if isinstance(made, Unredrivable):
            raise Refusal(HTTPStatus.CONFLICT, f"The dead letter cannot be redriven: {made.reason}.")
        rounds = [_round(deps, logged, out) for out in made.deliveries]
        ids = [delivery for delivery, _ in rounds]
        refuse_ordered(deps, row)  # once more: reading the letter took a while
        forgotten = [Forgotten(CANCELS, one) for one in ids if deps.cancels.of(one) is not None]
        await deps.write(who, row.seen.tenant, letter, *forgotten, detail=_named(ids))
        await hand_over(deps, rounds, made.deliveries)
        if made.letter is not None:  # if it is lost the letter waits on, and none of these goes twice
            await deps.records.publish([made.letter])
    return RedrivenLetter(id=letter, deliveries=ids, round=rounds[0][1])


async def discard(letter: Ident, who: PrincipalOf, deps: DepsOf) -> None:
    """Set a dead letter aside for good: it is kept as long as others, and can be redriven no more."""
    row = await _row(deps, letter, who)
    async with deps.issued.hold(row.seen.delivery or letter):
        row = await _row(deps, letter, who)
        if row.state is LetterState.UNDER_WAY or _sent_meanwhile(deps, row):
            raise Refusal(HTTPStatus.CONFLICT, f"{_UNDER_WAY} Wait until that has ended.")
        if not _discarded(deps, row):
            await deps.write(who, row.seen.tenant, letter, detail=row.seen.reason)
            deps.issued.give(letter, _SAID)


async def _row(deps: Deps, letter: str, who: Principal) -> DeadRow:
    """Raises `Refusal` (404)."""
    found = await deps.log.ask(lambda log: log.dead_letters([letter]))
    return require_theirs(found.get(letter), who, deps)


async def _held(deps: Deps, row: DeadRow) -> DeadLetter:
    """The letter itself. Raises `Refusal` (409) when retention has taken it, and `Unreachable`."""
    at = row.seen.partition, row.seen.offset
    record = (await deps.records.read(DEAD_LETTERS, [at])).get(at)
    try:
        held = None if record is None else deps.records.codec.dead_letter(record.value)
    except Undecodable as error:
        raise Refusal(HTTPStatus.CONFLICT, f"The letter itself cannot be read: {error}.") from error
    if held is None or held.id != row.seen.id:
        raise Refusal(HTTPStatus.CONFLICT, GONE)
    return held


def _require_open(deps: Deps, row: DeadRow) -> None:
    """Raise `Refusal` (409) for a letter that is discarded, or that an order may be at."""
    if _discarded(deps, row):
        raise Refusal(HTTPStatus.CONFLICT, _DISCARDED)
    refuse_ordered(deps, row)


def _discarded(deps: Deps, row: DeadRow) -> bool:
    return row.state is LetterState.DISCARDED or deps.issued.newer(row.seen.id, None) is not None


def _sent_meanwhile(deps: Deps, row: DeadRow) -> bool:
    seen = row.seen
    given = seen.delivery is not None and deps.issued.newer(seen.delivery, seen.round) is not None
    return given and row.state is LetterState.WAITING


def _redrive(deps: Deps) -> Redrive:
    records = deps.records
    past = FlowPast(records.places, records.codec, deps.log)
    return Redrive(records.codec, records.subscribers, past, deps.clock, closed=partial(_closed, deps))


def _closed(deps: Deps, path: str) -> str | None:
    tenant, _, webhook = path.partition("/")
    held = deps.directory.webhook(tenant, webhook)
    if held is None:
        return f"its webhook {webhook} is gone"
    return None if held.active else f"its webhook is inactive (pipeline webhooks activate {tenant} {webhook})"


async def _delivery(deps: Deps, row: DeadRow) -> DeliveryRow | None:
    """The letter's delivery in the log. Raises `Refusal` (409) while it may not be sent, or nothing would be sent."""
    tenant, delivery = row.seen.tenant, row.seen.delivery
    if tenant is None or delivery is None:
        return None
    await require_active(deps, tenant, deps.directory.webhook(tenant, row.seen.webhook or ""))
    logged = await deps.log.ask(lambda log: log.delivery(tenant, delivery))
    if logged is not None:
        may_be_sent(deps, logged)
    return logged


def _fresh_round(deps: Deps, held: DeadLetter, logged: DeliveryRow | None) -> str:
    """A round later than all that its delivery has had."""
    after = round_of(held) if logged is None else max(logged.round, round_of(held))
    return fresh_round(deps.clock(), deps.random(RANDOM_BYTES), after)


def _round(deps: Deps, logged: DeliveryRow | None, out: Outgoing) -> tuple[str, str]:
    """A delivery's id and its round. Raises `Refusal` (409) where it is being sent already."""
    delivery = deps.records.codec.delivery(out.value).id
    if deps.issued.newer(delivery, None if logged is None else logged.round) is not None:
        raise Refusal(HTTPStatus.CONFLICT, _UNDER_WAY)
    return delivery, of_headers(out.headers).round


def _named(deliveries: list[str]) -> str:
    more = len(deliveries) - _NAMED
    return ", ".join(deliveries[:_NAMED]) + (f" and {more} more" if more > 0 else "")
