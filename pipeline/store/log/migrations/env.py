"""Run by Alembic, on the connection and in the transaction of who opens the log."""

from __future__ import annotations

from alembic import context

from pipeline.store.log.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
