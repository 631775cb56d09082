"""Entries as rows of the log's tables: each says what its record says, and what it does not know is as if not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, assert_never

import orjson
from sqlalchemy import Table

from pipeline.flow.audit import LETTER_DISCARDED
from pipeline.flow.deliver import Attempt, Dead, Done, Next, Retry, Skipped
from pipeline.flow.history import (
    AttemptSeen,
    AuditSeen,
    DeadSeen,
    DeliverySeen,
    Entry,
    EventSeen,
    Position,
    Status,
)
from pipeline.store.log import tables

STATES = (Status.PENDING, Status.RETRYING, Status.CANCELLED, Status.FAILED, Status.DELIVERED)
"""A delivery's state is a number, its place here: of two that one round has come to, the later in this list holds."""

BODY_BYTES = 16_384
INDEXED_BYTES = 1_024
"""Of event ids and types so much is kept: PostgreSQL has no longer keys (2,704 bytes, all columns together)."""
_INDEXED_CHARACTERS = INDEXED_BYTES // 4
NOTHING_TRIED = {
    "last_round": "",
    "attempt": 0,
    "last_partition": -1,
    "last_offset": -1,
    "verdict": None,
    "status_code": None,
    "duration_ms": None,
    "next_ms": None,
}
NO_PLACE = {
    "offset": -1,
    "partition": -1,
    "time_ms": None,
    "replay": None,
    "redrive": None,
    "event_partition": None,
    "event_offset": None,
    "subscriptions_offset": None,
}
Row = dict[str, Any]


def told(text: str) -> str:
    """The text as databases take it: PostgreSQL knows no NUL."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def indexed(text: str) -> str:
    """An event's id or type as it is kept, and looked for."""
    if len(text) > _INDEXED_CHARACTERS:
        text = text.encode()[:INDEXED_BYTES].decode(errors="ignore")
    return told(text)


def rows(entries: Iterable[Entry]) -> dict[Table, list[Row]]:
    """Each table's rows, in the order of its keys: so two that write at once never wait for each other in a ring."""
    made: dict[Table, list[Row]] = {table: [] for table in tables.KEYS}
    for entry in entries:
        match entry:
            case EventSeen():
                made[tables.events].append(_event(entry))
            case DeliverySeen():
                made[tables.deliveries].append(_delivery(entry))
            case AttemptSeen(attempt):
                made[tables.attempts].append(_attempt(attempt, entry))
                made[tables.deliveries].append(_tried(attempt, entry))
            case DeadSeen():
                made[tables.dead_letters].append(_dead_letter(entry))
                if entry.tenant and entry.delivery and entry.webhook:
                    made[tables.deliveries].append(_failed(entry, entry.tenant, entry.delivery, entry.webhook))
            case AuditSeen(audit):
                made[tables.audits].append(_audit(entry))
                if audit.action == LETTER_DISCARDED:
                    made[tables.discards].append({"id": told(audit.target), "created_ms": audit.time_ms})
            case _:
                assert_never(entry)
    made[tables.deliveries] = _each_once(made[tables.deliveries])
    return {table: sorted(held, key=itemgetter(*tables.KEYS[table])) for table, held in made.items()}


def position_rows(positions: Sequence[Position]) -> list[Row]:
    """As `rows`."""
    made = [{"topic": one.topic, "partition": one.partition, "offset": one.offset} for one in positions]
    return sorted(made, key=itemgetter(*tables.KEYS[tables.positions]))


def _event(seen: EventSeen) -> Row:
    return {
        "tenant": told(seen.tenant),
        "id": indexed(seen.id),
        "type": indexed(seen.type),
        "time_ms": seen.time_ms,
        "created_ms": seen.time_ms if seen.append_ms is None else seen.append_ms,
        "partition": seen.partition,
        "offset": seen.offset,
    }


def _delivery(seen: DeliverySeen) -> Row:
    return {
        "tenant": told(seen.tenant),
        "id": told(seen.id),
        "webhook": told(seen.webhook),
        "event": indexed(seen.event),
        "type": indexed(seen.type),
        "created_ms": seen.append_ms,
        "round": told(seen.round),
        "state": STATES.index(Status.PENDING),
        "offset": seen.offset,
        "partition": seen.partition,
        "time_ms": seen.time_ms,
        "replay": None if seen.replay is None else told(seen.replay),
        "redrive": None if seen.order is None else told(seen.order),
        "event_partition": seen.event_partition,
        "event_offset": seen.event_offset,
        "subscriptions_offset": seen.subscriptions_offset,
        **NOTHING_TRIED,
    }


def _tried(attempt: Attempt, seen: AttemptSeen) -> Row:
    due = attempt.started_ms + attempt.duration_ms
    return {
        "tenant": told(attempt.tenant),
        "id": told(attempt.delivery),
        "webhook": told(attempt.webhook),
        "event": indexed(attempt.event),
        "type": indexed(attempt.type),
        "created_ms": attempt.started_ms,
        "round": told(attempt.round),
        "state": STATES.index(_status(attempt.next)),
        "last_round": told(attempt.round),
        "attempt": attempt.attempt,
        "last_partition": seen.partition,
        "last_offset": seen.offset,
        "verdict": attempt.verdict.value,
        "status_code": attempt.status_code,
        "duration_ms": attempt.duration_ms,
        "next_ms": due + attempt.next.wait_ms if isinstance(attempt.next, Retry) else None,
        **NO_PLACE,
    }


def _failed(seen: DeadSeen, tenant: str, delivery: str, webhook: str) -> Row:
    return {
        "tenant": told(tenant),
        "id": told(delivery),
        "webhook": told(webhook),
        "event": indexed(seen.event or ""),
        "type": indexed(seen.type or ""),
        "created_ms": seen.time_ms,
        "round": told(seen.round),
        "state": STATES.index(Status.FAILED),
        **NOTHING_TRIED,
        **NO_PLACE,
    }


def _status(then: Next) -> Status:
    match then:
        case Done():
            return Status.DELIVERED
        case Retry():
            return Status.RETRYING
        case Dead():
            return Status.FAILED
        case Skipped():
            return Status.CANCELLED
        case _:
            assert_never(then)


def _attempt(attempt: Attempt, seen: AttemptSeen) -> Row:
    return {
        "tenant": told(attempt.tenant),
        "delivery": told(attempt.delivery),
        "round": told(attempt.round),
        "attempt": attempt.attempt,
        "offset": seen.offset,
        "partition": seen.partition,
        "hop": attempt.hop,
        "created_ms": attempt.started_ms,
        "duration_ms": attempt.duration_ms,
        "verdict": attempt.verdict.value,
        "status_code": attempt.status_code,
        "request_headers": orjson.dumps(attempt.request_headers).decode(),
        "response_headers": orjson.dumps(attempt.response_headers).decode(),
        "response_body": attempt.response_body[:BODY_BYTES],
        "next": _NEXT[type(attempt.next)],
        "wait_ms": attempt.next.wait_ms if isinstance(attempt.next, Retry) else None,
        "reason": told(attempt.next.reason) if isinstance(attempt.next, Dead) else None,
        "answers_partition": attempt.answers.partition,
        "answers_offset": attempt.answers.offset,
    }


_NEXT: dict[type[Next], str] = {Done: "done", Retry: "retry", Dead: "dead", Skipped: "skipped"}


def _dead_letter(seen: DeadSeen) -> Row:
    names = ("tenant", "webhook", "delivery")
    known = {name: None if (text := getattr(seen, name)) is None else told(text) for name in names}
    return {
        "id": told(seen.id),
        **known,
        "event": None if seen.event is None else indexed(seen.event),
        "type": None if seen.type is None else indexed(seen.type),
        "round": told(seen.round),
        "reason": told(seen.reason),
        "detail": told(seen.detail),
        "created_ms": seen.time_ms,
        "partition": seen.partition,
        "offset": seen.offset,
        "redriven_ms": seen.redriven_ms,
        "append_ms": seen.append_ms,
        "state": 0,  # which is settled when all of the batch is written: see `letters.settling`
    }


def _audit(seen: AuditSeen) -> Row:
    audit = seen.audit
    return {
        "id": told(audit.id),
        "created_ms": audit.time_ms,
        "key": told(audit.key),
        "role": told(audit.role),
        "action": told(audit.action),
        "tenant": None if audit.tenant is None else told(audit.tenant),
        "target": told(audit.target),
        "detail": told(audit.detail),
    }


_FURTHER = itemgetter("round", "state")
_TRIED = itemgetter("last_round", "attempt", "last_offset", "last_partition")
_PLACE = itemgetter("offset", "partition")


def _each_once(rows: Iterable[Row]) -> list[Row]:
    """What a batch says of one delivery as one row, by the rules of `merging`.

    A delivery that has been tried soon after it was written then goes through the indices once, not twice.
    """
    made: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["tenant"], row["id"]
        made[key] = row if (held := made.get(key)) is None else _of_both(held, row)
    return list(made.values())


def _of_both(one: Row, other: Row) -> Row:
    further, tried, placed = (max(one, other, key=by) for by in (_FURTHER, _TRIED, _PLACE))
    same_kind = (one["offset"] >= 0) == (other["offset"] >= 0)
    return {
        **placed,
        "event": one["event"] or other["event"],
        "type": one["type"] or other["type"],
        "created_ms": min(one["created_ms"], other["created_ms"]) if same_kind else placed["created_ms"],
        "round": further["round"],
        "state": further["state"],
        **{name: tried[name] for name in NOTHING_TRIED},
    }
