"""An index for counting a replay's deliveries by their states."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "v0003", "v0002", None, None

_OF_REPLAYS = sa.text("replay IS NOT NULL")


def upgrade() -> None:
    """Make it; most deliveries are of no replay, and not in it."""
    op.create_index(
        "deliveries_by_replay",
        "deliveries",
        ["replay", "state"],
        postgresql_where=_OF_REPLAYS,
        sqlite_where=_OF_REPLAYS,
    )
