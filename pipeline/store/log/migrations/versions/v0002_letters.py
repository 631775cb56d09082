"""How dead letters stand: their state, what it follows from, and indices for their lists by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision, branch_labels, depends_on = "v0002", "v0001", None, None

_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_LIST = ("state", "created_ms", "id")
_BEFORE = ("by_reason", "by_tenant", "by_tenant_reason", "by_webhook")
_INDICES = {
    "by_state": _LIST,
    "by_reason": ("reason", *_LIST),
    "by_type": ("type", *_LIST),
    "by_type_reason": ("type", "reason", *_LIST),
    "by_tenant": ("tenant", *_LIST),
    "by_tenant_reason": ("tenant", "reason", *_LIST),
    "by_tenant_type": ("tenant", "type", *_LIST),
    "by_tenant_type_reason": ("tenant", "type", "reason", *_LIST),
    "by_webhook": ("tenant", "webhook", *_LIST),
    "by_webhook_reason": ("tenant", "webhook", "reason", *_LIST),
    "by_webhook_type": ("tenant", "webhook", "type", *_LIST),
    "by_webhook_type_reason": ("tenant", "webhook", "type", "reason", *_LIST),
    "by_delivery": ("tenant", "delivery"),
}
_STATES = """
UPDATE dead_letters SET state = coalesce((
  SELECT CASE WHEN deliveries.round <= dead_letters.round THEN 0 WHEN deliveries.state >= 2 THEN 2 ELSE 1 END
  FROM deliveries WHERE deliveries.tenant = dead_letters.tenant AND deliveries.id = dead_letters.delivery
), 0)
"""


def upgrade() -> None:
    """Add the columns, say how each letter stands, and make the lists' indices anew."""
    op.create_table(
        "discards",
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("discards_by_time", "discards", ["created_ms"])
    op.add_column("dead_letters", sa.Column("redriven_ms", sa.BigInteger()))
    op.add_column("dead_letters", sa.Column("append_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("dead_letters", sa.Column("state", sa.SmallInteger(), nullable=False, server_default="0"))
    op.execute(_STATES)
    for name in _BEFORE:
        op.drop_index(f"dead_letters_{name}", "dead_letters")
    for name, columns in _INDICES.items():
        op.create_index(f"dead_letters_{name}", "dead_letters", list(columns))
