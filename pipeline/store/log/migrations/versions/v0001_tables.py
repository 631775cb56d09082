"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision, branch_labels, depends_on = "v0001", None, None, None

_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them, and their indices."""
    _events()
    _deliveries()
    _attempts()
    _dead_letters()
    _audits()
    _positions()


def _needed(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def _events() -> None:
    op.create_table(
        "events",
        _needed("tenant", _TEXT),
        _needed("id", _TEXT),
        _needed("type", _TEXT),
        _needed("time_ms", sa.BigInteger()),
        _needed("created_ms", sa.BigInteger()),
        _needed("partition", sa.Integer()),
        _needed("offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    op.create_index("events_by_tenant", "events", ["tenant", "created_ms", "id"])
    op.create_index("events_by_time", "events", ["created_ms"])
    op.create_index("events_by_type", "events", ["tenant", "type", "created_ms", "id"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        _needed("tenant", _TEXT),
        _needed("id", _TEXT),
        _needed("webhook", _TEXT),
        _needed("event", _TEXT),
        _needed("type", _TEXT),
        _needed("created_ms", sa.BigInteger()),
        _needed("round", _TEXT),
        _needed("state", sa.SmallInteger()),
        _needed("last_round", _TEXT),
        _needed("attempt", sa.Integer()),
        _needed("last_partition", sa.Integer()),
        _needed("last_offset", sa.BigInteger()),
        sa.Column("verdict", _TEXT),
        sa.Column("status_code", sa.Integer()),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("next_ms", sa.BigInteger()),
        _needed("offset", sa.BigInteger()),
        _needed("partition", sa.Integer()),
        sa.Column("time_ms", sa.BigInteger()),
        sa.Column("replay", _TEXT),
        sa.Column("event_partition", sa.Integer()),
        sa.Column("event_offset", sa.BigInteger()),
        sa.Column("subscriptions_offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    op.create_index("deliveries_by_event", "deliveries", ["tenant", "event", "webhook", "id"])
    op.create_index("deliveries_by_state", "deliveries", ["tenant", "state", "created_ms", "id"])
    op.create_index("deliveries_by_time", "deliveries", ["created_ms"])
    op.create_index("deliveries_by_type", "deliveries", ["tenant", "type", "state", "created_ms", "id"])
    op.create_index("deliveries_by_webhook", "deliveries", ["tenant", "webhook", "state", "created_ms", "id"])
    op.create_index(
        "deliveries_by_webhook_type", "deliveries", ["tenant", "webhook", "type", "state", "created_ms", "id"]
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        _needed("tenant", _TEXT),
        _needed("delivery", _TEXT),
        _needed("round", _TEXT),
        _needed("attempt", sa.Integer()),
        _needed("offset", sa.BigInteger()),
        _needed("partition", sa.Integer()),
        _needed("hop", sa.Integer()),
        _needed("created_ms", sa.BigInteger()),
        _needed("duration_ms", sa.Integer()),
        _needed("verdict", _TEXT),
        sa.Column("status_code", sa.Integer()),
        _needed("request_headers", _TEXT),
        _needed("response_headers", _TEXT),
        _needed("response_body", sa.LargeBinary()),
        _needed("next", _TEXT),
        sa.Column("wait_ms", sa.BigInteger()),
        sa.Column("reason", _TEXT),
        _needed("answers_partition", sa.Integer()),
        _needed("answers_offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "delivery", "round", "attempt", "offset", "partition"),
    )
    op.create_index("attempts_by_time", "attempts", ["created_ms"])


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        _needed("id", _TEXT),
        sa.Column("tenant", _TEXT),
        sa.Column("webhook", _TEXT),
        sa.Column("delivery", _TEXT),
        sa.Column("event", _TEXT),
        sa.Column("type", _TEXT),
        _needed("round", _TEXT),
        _needed("reason", _TEXT),
        _needed("detail", _TEXT),
        _needed("created_ms", sa.BigInteger()),
        _needed("partition", sa.Integer()),
        _needed("offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("dead_letters_by_reason", "dead_letters", ["reason", "created_ms", "id"])
    op.create_index("dead_letters_by_tenant", "dead_letters", ["tenant", "created_ms", "id"])
    op.create_index("dead_letters_by_tenant_reason", "dead_letters", ["tenant", "reason", "created_ms", "id"])
    op.create_index("dead_letters_by_time", "dead_letters", ["created_ms", "id"])
    op.create_index("dead_letters_by_webhook", "dead_letters", ["tenant", "webhook", "created_ms", "id"])


def _audits() -> None:
    op.create_table(
        "audits",
        _needed("id", _TEXT),
        _needed("created_ms", sa.BigInteger()),
        _needed("key", _TEXT),
        _needed("role", _TEXT),
        _needed("action", _TEXT),
        sa.Column("tenant", _TEXT),
        _needed("target", _TEXT),
        _needed("detail", _TEXT),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audits_by_tenant", "audits", ["tenant", "created_ms", "id"])
    op.create_index("audits_by_time", "audits", ["created_ms", "id"])


def _positions() -> None:
    op.create_table(
        "positions",
        _needed("topic", _TEXT),
        _needed("partition", sa.Integer()),
        _needed("offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("topic", "partition"),
    )
