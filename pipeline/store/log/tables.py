"""The log's tables.

No row points into another table: entries come in any order, and what is dropped by day is dropped table by table.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text, text
from sqlalchemy.dialects import postgresql

TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Compared byte by byte, as rounds and ids are; SQLite compares so by itself."""

metadata = MetaData()


def _needed(name: str, kind: Any, *, key: bool = False) -> Column[Any]:
    return Column(name, kind, primary_key=key, nullable=False, autoincrement=False)


events = Table(
    "events",
    metadata,
    _needed("tenant", TEXT, key=True),
    _needed("id", TEXT, key=True),
    _needed("type", TEXT),
    _needed("time_ms", BigInteger()),
    _needed("created_ms", BigInteger()),
    _needed("partition", Integer()),
    _needed("offset", BigInteger()),
    Index("events_by_tenant", "tenant", "created_ms", "id"),
    Index("events_by_type", "tenant", "type", "created_ms", "id"),
    Index("events_by_time", "created_ms"),
)

_OF_REPLAYS, _OF_REDRIVES = text("replay IS NOT NULL"), text("redrive IS NOT NULL")
_BY_REPLAY = ("replay", "state", "tenant", "created_ms", "id")
"""For counting by states, and for lists of one state each."""
deliveries = Table(
    "deliveries",
    metadata,
    _needed("tenant", TEXT, key=True),
    _needed("id", TEXT, key=True),
    _needed("webhook", TEXT),
    _needed("event", TEXT),
    _needed("type", TEXT),
    _needed("created_ms", BigInteger()),
    _needed("round", TEXT),
    _needed("state", SmallInteger()),  # in that round: its number in `entries.STATES`
    # the last attempt: of the greatest (round, number, place in `attempts`)
    _needed("last_round", TEXT),
    _needed("attempt", Integer()),
    _needed("last_partition", Integer()),
    _needed("last_offset", BigInteger()),
    Column("verdict", TEXT),
    Column("status_code", Integer()),
    Column("duration_ms", Integer()),
    Column("next_ms", BigInteger()),
    # the newest record of `deliveries`: of the greatest (offset, partition), -1 for none
    _needed("offset", BigInteger()),
    _needed("partition", Integer()),
    Column("time_ms", BigInteger()),
    Column("replay", TEXT),
    Column("event_partition", Integer()),
    Column("event_offset", BigInteger()),
    Column("subscriptions_offset", BigInteger()),
    Column("redrive", TEXT),  # the order over dead letters that has begun the round
    # each list is one stretch of one of these: the state stands in all of them, see `queries.deliveries_page`
    Index("deliveries_by_state", "tenant", "state", "created_ms", "id"),
    Index("deliveries_by_webhook", "tenant", "webhook", "state", "created_ms", "id"),
    Index("deliveries_by_type", "tenant", "type", "state", "created_ms", "id"),
    Index("deliveries_by_webhook_type", "tenant", "webhook", "type", "state", "created_ms", "id"),
    Index("deliveries_by_event", "tenant", "event", "webhook", "id"),
    Index("deliveries_by_time", "created_ms"),
    Index("deliveries_by_replay", *_BY_REPLAY, postgresql_where=_OF_REPLAYS, sqlite_where=_OF_REPLAYS),
    Index("deliveries_by_redrive", "redrive", "state", postgresql_where=_OF_REDRIVES, sqlite_where=_OF_REDRIVES),
)

attempts = Table(
    "attempts",
    metadata,
    _needed("tenant", TEXT, key=True),
    _needed("delivery", TEXT, key=True),
    _needed("round", TEXT, key=True),
    _needed("attempt", Integer(), key=True),
    _needed("offset", BigInteger(), key=True),
    _needed("partition", Integer(), key=True),
    _needed("hop", Integer()),
    _needed("created_ms", BigInteger()),  # when it was started
    _needed("duration_ms", Integer()),
    _needed("verdict", TEXT),
    Column("status_code", Integer()),
    _needed("request_headers", TEXT),
    _needed("response_headers", TEXT),
    _needed("response_body", LargeBinary()),
    _needed("next", TEXT),
    Column("wait_ms", BigInteger()),
    Column("reason", TEXT),
    _needed("answers_partition", Integer()),
    _needed("answers_offset", BigInteger()),
    Index("attempts_by_time", "created_ms"),
)

_LETTERS = ("state", "created_ms", "id")
dead_letters = Table(
    "dead_letters",
    metadata,
    _needed("id", TEXT, key=True),
    Column("tenant", TEXT),
    Column("webhook", TEXT),
    Column("delivery", TEXT),
    Column("event", TEXT),
    Column("type", TEXT),
    _needed("round", TEXT),
    _needed("reason", TEXT),
    _needed("detail", TEXT),
    _needed("created_ms", BigInteger()),
    _needed("partition", Integer()),
    _needed("offset", BigInteger()),
    Column("redriven_ms", BigInteger()),
    Column("append_ms", BigInteger(), nullable=False, server_default="0"),  # of its newest record
    Column("state", SmallInteger(), nullable=False, server_default="0"),  # a number: `letters.LETTER_STATES`
    # as the indices of deliveries, see `letters.page`
    Index("dead_letters_by_state", *_LETTERS),
    Index("dead_letters_by_reason", "reason", *_LETTERS),
    Index("dead_letters_by_type", "type", *_LETTERS),
    Index("dead_letters_by_type_reason", "type", "reason", *_LETTERS),
    Index("dead_letters_by_tenant", "tenant", *_LETTERS),
    Index("dead_letters_by_tenant_reason", "tenant", "reason", *_LETTERS),
    Index("dead_letters_by_tenant_type", "tenant", "type", *_LETTERS),
    Index("dead_letters_by_tenant_type_reason", "tenant", "type", "reason", *_LETTERS),
    Index("dead_letters_by_webhook", "tenant", "webhook", *_LETTERS),
    Index("dead_letters_by_webhook_reason", "tenant", "webhook", "reason", *_LETTERS),
    Index("dead_letters_by_webhook_type", "tenant", "webhook", "type", *_LETTERS),
    Index("dead_letters_by_webhook_type_reason", "tenant", "webhook", "type", "reason", *_LETTERS),
    Index("dead_letters_by_delivery", "tenant", "delivery"),
    Index("dead_letters_by_time", "created_ms", "id"),
)

discards = Table(
    "discards",
    metadata,
    _needed("id", TEXT, key=True),  # the dead letter's
    _needed("created_ms", BigInteger()),
    Index("discards_by_time", "created_ms"),
)

audits = Table(
    "audits",
    metadata,
    _needed("id", TEXT, key=True),
    _needed("created_ms", BigInteger()),
    _needed("key", TEXT),
    _needed("role", TEXT),
    _needed("action", TEXT),
    Column("tenant", TEXT),
    _needed("target", TEXT),
    _needed("detail", TEXT),
    Index("audits_by_time", "created_ms", "id"),
    Index("audits_by_tenant", "tenant", "created_ms", "id"),
)

positions = Table(
    "positions",
    metadata,
    _needed("topic", TEXT, key=True),
    _needed("partition", Integer(), key=True),
    _needed("offset", BigInteger()),
)

KEYS: dict[Table, tuple[str, ...]] = {
    table: tuple(column.name for column in table.primary_key)
    for table in (events, deliveries, attempts, dead_letters, discards, audits, positions)
}
