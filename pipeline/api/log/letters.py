"""Dead letters as clients see them, and what a list of them may be narrowed to."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from pipeline.api.auth import PrincipalOf, require_own
from pipeline.api.deps import Deps, DepsOf
from pipeline.api.log.narrowing import From, To, Type, Webhook, span
from pipeline.api.log.shown import RecordPlace, Tried, tried, written
from pipeline.api.problems import FieldError, invalid, not_found
from pipeline.api.roles import Principal
from pipeline.flow.deadletter import DeadLetter, LetterState, Reason
from pipeline.kafka.topics import DEAD_LETTERS
from pipeline.store.log import DeadCount, DeadFilter, DeadRow, Group

GONE = "The letter itself is gone: retention has taken it."


class LetterOut(BaseModel):
    """A dead letter: what the flow has set aside, and why."""

    id: str
    reason: Reason
    detail: str = Field(description="What was wrong, in words.", examples=["attempt 8 ended with verdict timeout"])
    state: LetterState = Field(
        description="waiting (also again, where its delivery was cancelled or skipped); under_way (its delivery goes "
        "again); redriven (that has arrived, or failed in its turn, or its event has been routed); discarded."
    )
    tenant: str | None = Field(description="Null where the record does not say whose it is.")
    webhook: str | None
    delivery: str | None = Field(description="The delivery that ended here; null where none was made.")
    event: str | None
    type: str | None
    created_at: str
    record: RecordPlace = Field(description="Where the letter lies.")


class RawHeader(BaseModel):
    """A header of the record; exactly one of the two is given."""

    name: str
    text: str | None
    base64: str | None


class LetterDetail(LetterOut):
    """A dead letter with all that it holds."""

    source: RecordPlace | None = Field(description="Where the record lay that was set aside.")
    key: str | None = Field(description="The record's key, as text as far as it is.")
    value_text: str | None = Field(description="The record's value where it is text.")
    value_base64: str | None = Field(description="The value where it is not.")
    value_sha256: str | None = Field(description="Of the whole value, where it was too large: its beginning is shown.")
    headers: list[RawHeader]
    body: str | None = Field(description="What its delivery sends.")
    last_attempt: Tried | None
    note: str | None = Field(description="Why nothing of it can be shown.")


class LetterCount(BaseModel):
    """Dead letters that have something in common."""

    value: str | None = Field(description="Null: those of which it is not known.", examples=["exhausted"])
    tenant: str | None = Field(description="Whose the webhook is, where they are counted by webhook.")
    count: int
    oldest_at: str
    newest_at: str


class LetterCounts(BaseModel):
    """How many dead letters there are, in all and in each group."""

    group_by: Group
    total: int
    groups: list[LetterCount] = Field(description="The largest first; 200 at most.")


async def _filter(
    who: PrincipalOf,
    deps: DepsOf,
    *,
    tenant: Annotated[str | None, Query(max_length=64, description="Only this tenant's.")] = None,
    webhook: Webhook = None,
    reason: Annotated[Reason | None, Query(description="For this reason.")] = None,
    type_: Annotated[Type, Query(alias="type")] = None,
    state: Annotated[LetterState | None, Query(description="That stand so.")] = None,
    from_: From = None,
    to: To = None,
) -> DeadFilter:
    wanted = DeadFilter(tenant, webhook, reason and reason.value, type_, *span(from_, to), state)
    return narrowed(wanted, who, deps)


LetterFilterOf = Annotated[DeadFilter, Depends(_filter)]
"""An operation's parameter: which dead letters."""


def narrowed(wanted: DeadFilter, who: Principal, deps: Deps) -> DeadFilter:
    """To what is theirs who ask: a tenant's key sees those of its tenant, none that an earlier one of its id has left.

    Raises `Refusal` (404, 422).
    """
    if wanted.tenant is not None:
        require_own(who, wanted.tenant, "tenant")
    tenant = wanted.tenant or who.tenant
    if wanted.webhook is not None and tenant is None:
        raise invalid([FieldError("/tenant", "required", "Name the tenant whose webhook this is")])
    since_ms = wanted.from_ms
    if who.tenant is not None:
        since_ms = max(since_ms or 0, deps.tenant(who.tenant).created_ms)
    rest = wanted.webhook, wanted.reason, wanted.type, since_ms, wanted.to_ms, wanted.state
    return DeadFilter(tenant, *rest)


def require_theirs(row: DeadRow | None, who: Principal, deps: Deps) -> DeadRow:
    """The letter, where it is theirs who ask. Raises `Refusal` (404)."""
    if row is None:
        raise not_found("letter")
    require_own(who, row.seen.tenant, "letter")
    if who.tenant is not None and row.seen.time_ms < deps.tenant(who.tenant).created_ms:
        raise not_found("letter")
    return row


def letter_out(row: DeadRow) -> LetterOut:
    """A dead letter as the log has it."""
    seen = row.seen
    return LetterOut(
        id=seen.id,
        reason=Reason(seen.reason),
        detail=seen.detail,
        state=row.state,
        tenant=seen.tenant,
        webhook=seen.webhook,
        delivery=seen.delivery,
        event=seen.event,
        type=seen.type,
        created_at=written(seen.time_ms),
        record=RecordPlace(topic=DEAD_LETTERS, partition=seen.partition, offset=seen.offset),
    )


def letter_detail(row: DeadRow, held: DeadLetter | None, note: str | None) -> LetterDetail:
    """The same with all that the letter holds, where it is there."""
    value = None if held is None else held.value
    text = _text(value)
    return LetterDetail(
        **letter_out(row).model_dump(),
        value_text=text,
        value_base64=_base64(value) if text is None else None,
        note=note,
        **_HELD_NOTHING if held is None else _held(held),
    )


_HELD_NOTHING: dict[str, Any] = {
    "source": None,
    "key": None,
    "value_sha256": None,
    "headers": [],
    "body": None,
    "last_attempt": None,
}


def _held(letter: DeadLetter) -> dict[str, Any]:
    source, delivery, attempt = letter.source, letter.delivery, letter.last_attempt
    return {
        "source": RecordPlace(topic=source.topic, partition=source.partition, offset=source.offset),
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "value_sha256": None if letter.digest is None else letter.digest.hex(),
        "headers": [_header(name, raw) for name, raw in letter.headers],
        "body": None if delivery is None else delivery.body.decode(errors="replace"),
        "last_attempt": None if attempt is None else tried(attempt),
    }


def count_out(one: DeadCount) -> LetterCount:
    """A group as clients see it."""
    times = {"oldest_at": written(one.oldest_ms), "newest_at": written(one.newest_ms)}
    return LetterCount(value=one.value, tenant=one.tenant, count=one.number, **times)


def _header(name: str, raw: bytes | None) -> RawHeader:
    text = _text(raw)
    return RawHeader(name=name, text=text, base64=_base64(raw) if text is None else None)


def _text(raw: bytes | None) -> str | None:
    """The bytes as text, if that is what they are: a sign that no text has is taken as proof that they are not."""
    try:
        text = None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None
    return text if text is not None and all(sign.isprintable() or sign in "\t\r\n" for sign in text) else None


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()
