"""The index of a replay's deliveries serves their list, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "v0005", "v0004", None, None

_OF_REPLAYS = sa.text("replay IS NOT NULL")


def upgrade() -> None:
    """Make it anew; most deliveries are of no replay, and not in it."""
    op.drop_index("deliveries_by_replay", "deliveries")
    op.create_index(
        "deliveries_by_replay",
        "deliveries",
        ["replay", "state", "tenant", "created_ms", "id"],
        postgresql_where=_OF_REPLAYS,
        sqlite_where=_OF_REPLAYS,
    )
