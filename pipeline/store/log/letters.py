"""Dead letters in the log: how each stands, their lists, their counts by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Row,
    Table,
    bindparam,
    case,
    desc,
    exists,
    func,
    literal_column,
    or_,
    select,
    union_all,
    update,
)

from pipeline.flow.deadletter import LetterState
from pipeline.flow.history import ENDED, DeadSeen, Status
from pipeline.flow.rounds import FIRST
from pipeline.store.log.entries import STATES, indexed, told
from pipeline.store.log.queries import Condition, Query, in_order, stretch
from pipeline.store.log.rows import DeadCount, DeadFilter, DeadRow
from pipeline.store.log.tables import dead_letters, deliveries, discards
from pipeline.store.pages import Place

LETTER_STATES = tuple(LetterState)
"""A letter's state is a number, its place here."""

_LETTER = tuple(
    dead_letters.c[name]
    for name in (
        *("id", "tenant", "webhook", "delivery", "round", "reason", "created_ms"),
        *("partition", "offset", "detail", "event", "type", "redriven_ms", "append_ms", "state"),
    )
)


class Group(StrEnum):
    """What letters are counted by."""

    REASON = "reason"
    TENANT = "tenant"
    WEBHOOK = "webhook"
    TYPE = "type"


_GROUPS = {
    Group.REASON: ("reason",),
    Group.TENANT: ("tenant",),
    Group.WEBHOOK: ("tenant", "webhook"),
    Group.TYPE: ("type",),
}


def settling(dialect: Dialect) -> tuple[str, str]:
    """The statements that say anew how letters stand: those of an id, and those of a delivery.

    A letter's state follows from its own row, that of its delivery and that of its discarding. Each transaction that
    writes one of them ends by this, so neither their order nor their repetition matters.
    """
    one = update(dead_letters).values(state=_state())
    of_id = one.where(dead_letters.c.id == bindparam("letter"))
    of_delivery = one.where(dead_letters.c.tenant == bindparam("of"), dead_letters.c.delivery == bindparam("again"))
    return str(of_id.compile(dialect=dialect)), str(of_delivery.compile(dialect=dialect))


def unsettled(made: Mapping[Table, Sequence[Mapping[str, Any]]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What those statements are to be given after these rows. A delivery's first round never changes a letter."""
    letters = {row["id"] for table in (dead_letters, discards) for row in made[table]}
    again = {(row["tenant"], row["id"]) for row in made[deliveries] if row["round"] != FIRST}
    return [{"letter": one} for one in sorted(letters)], [{"of": of, "again": one} for of, one in sorted(again)]


def _state() -> ColumnElement[Any]:
    ours = deliveries.c.tenant == dead_letters.c.tenant, deliveries.c.id == dead_letters.c.delivery
    ended: list[ColumnElement[Any]] = [literal_column(str(STATES.index(status))) for status in ENDED]
    nothing_came = or_(
        deliveries.c.round <= dead_letters.c.round,
        deliveries.c.state == literal_column(str(STATES.index(Status.CANCELLED))),
    )
    newer = case(
        (nothing_came, _number(LetterState.WAITING)),
        (deliveries.c.state.in_(ended), _number(LetterState.REDRIVEN)),
        else_=_number(LetterState.UNDER_WAY),
    )
    by_delivery = select(newer).where(*ours).correlate(dead_letters).scalar_subquery()
    return case(
        (exists().where(discards.c.id == dead_letters.c.id).correlate(dead_letters), _number(LetterState.DISCARDED)),
        (dead_letters.c.redriven_ms.is_not(None), _number(LetterState.REDRIVEN)),
        else_=func.coalesce(by_delivery, _number(LetterState.WAITING)),
    )


def _number(state: LetterState) -> ColumnElement[int]:
    return literal_column(str(LETTER_STATES.index(state)))


def page(wanted: DeadFilter, after: Place | None, limit: int, *, dialect: str = "sqlite") -> Query:
    """A page of letters. Every index has the state before the time: their stretches are merged, as deliveries' are.

    A webhook is looked for among its tenant's alone.
    """
    conditions = [*_common(wanted), *stretch(dead_letters, wanted.from_ms, wanted.to_ms, after)]
    of_one = [
        select(*_LETTER).where(*conditions, dead_letters.c.state == LETTER_STATES.index(state))
        for state in LETTER_STATES
        if wanted.state in {None, state}
    ]
    if len(of_one) == 1:
        return in_order(of_one[0], dead_letters, limit)
    if dialect == "postgresql":  # merges what says itself that it is in order
        of_one = [select(in_order(one, dead_letters, limit).subquery()) for one in of_one]
    return union_all(*of_one).order_by(desc("created_ms"), desc("id")).limit(limit)


def some(letters: Sequence[str]) -> Query:
    """The letters of these ids."""
    return select(*_LETTER).where(dead_letters.c.id.in_([told(one) for one in letters]))


def of_delivery(tenant: str, delivery: str) -> Query:
    """The letters that a delivery has ended in: one for each of its rounds that has failed."""
    ours = dead_letters.c.tenant == told(tenant), dead_letters.c.delivery == told(delivery)
    return select(*_LETTER).where(*ours)


def counts(wanted: DeadFilter, by: Group, limit: int) -> Query:
    """How many there are in each group, the largest first. It takes as long as it takes to pass all of them."""
    columns = [dead_letters.c[name] for name in _GROUPS[by]]
    number, made = func.count().label("number"), dead_letters.c.created_ms
    grouped = select(*columns, number, func.min(made).label("oldest_ms"), func.max(made).label("newest_ms"))
    return grouped.where(*_all(wanted)).group_by(*columns).order_by(number.desc(), *columns).limit(limit)


def total(wanted: DeadFilter) -> Query:
    """How many there are."""
    return select(func.count()).select_from(dead_letters).where(*_all(wanted))


def _all(wanted: DeadFilter) -> list[Condition]:
    conditions = [*_common(wanted), *stretch(dead_letters, wanted.from_ms, wanted.to_ms, None)]
    if wanted.state is not None:
        conditions.append(dead_letters.c.state == LETTER_STATES.index(wanted.state))
    return conditions


def _common(wanted: DeadFilter) -> list[Condition]:
    given = {"tenant": wanted.tenant, "webhook": wanted.webhook, "reason": wanted.reason}
    conditions = [dead_letters.c[name] == told(text) for name, text in given.items() if text is not None]
    return conditions if wanted.type is None else [*conditions, dead_letters.c.type == indexed(wanted.type)]


def to_letter(row: Row[Any]) -> DeadRow:
    """A letter as it was selected."""
    values = tuple(row)
    return DeadRow(DeadSeen(*values[:-1]), LETTER_STATES[values[-1]])


def to_count(by: Group, row: Row[Any]) -> DeadCount:
    """A group as it was selected."""
    tenant = row.tenant if by is Group.WEBHOOK else None
    return DeadCount(getattr(row, _GROUPS[by][-1]), row.number, row.oldest_ms, row.newest_ms, tenant)
