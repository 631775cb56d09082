"""Which order over dead letters a delivery goes with; and letters whose delivery was only cancelled wait again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision, branch_labels, depends_on = "v0004", "v0003", None, None

_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_OF_REDRIVES = sa.text("redrive IS NOT NULL")
_WAIT_AGAIN = """
UPDATE dead_letters SET state = 0 WHERE state = 2 AND redriven_ms IS NULL AND EXISTS (
  SELECT 1 FROM deliveries
  WHERE deliveries.tenant = dead_letters.tenant AND deliveries.id = dead_letters.delivery AND deliveries.state = 2
)
"""


def upgrade() -> None:
    """Add the column and its index, which no delivery is in yet, and say anew how such letters stand."""
    op.add_column("deliveries", sa.Column("redrive", _TEXT))
    op.create_index(
        "deliveries_by_redrive",
        "deliveries",
        ["redrive", "state"],
        postgresql_where=_OF_REDRIVES,
        sqlite_where=_OF_REDRIVES,
    )
    op.execute(_WAIT_AGAIN)
