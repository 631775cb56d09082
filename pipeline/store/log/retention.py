"""Removing rows, a few at a time, so that a writer waits for moments only; and giving their space back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

from sqlalchemy import Connection, Engine, Table, delete, func, select, text, tuple_

from pipeline.store.log import tables

STEP = 5_000
"""So many rows a transaction."""
_PAGES = 2_000
"""So many pages a transaction: 8 MiB that SQLite moves to where there is room."""
_DATED = (tables.events, tables.deliveries, tables.attempts, tables.dead_letters, tables.discards, tables.audits)
_OF_TENANTS = (tables.events, tables.deliveries, tables.attempts, tables.dead_letters)

Transaction = Callable[[], AbstractContextManager[Connection]]


def drop_before(transaction: Transaction, time_ms: int) -> dict[Table, int]:
    """Remove what was made before a time; how many rows of each table."""
    return {table: sum(_dropped(transaction, table, time_ms)) for table in _DATED}


def _dropped(transaction: Transaction, table: Table, time_ms: int) -> Iterator[int]:
    """Along the index of times, from where the step before ended: what was removed is not passed again."""
    made, begin = table.c.created_ms, None
    while True:
        with transaction() as connection:
            older = made < time_ms if begin is None else (made < time_ms) & (made >= begin)
            step = select(made).where(older).order_by(made).offset(STEP).limit(1)
            end = connection.execute(step).scalar()
            if end is None:
                yield connection.execute(delete(table).where(older)).rowcount
                return
            begin = end + 1
            yield connection.execute(delete(table).where(older, made < begin)).rowcount


def forget_tenant(transaction: Transaction, tenant: str, before_ms: int | None = None) -> int:
    """Remove all rows of a tenant, or those that were made before a time; how many."""
    return sum(count for table in _OF_TENANTS for count in _forgotten(transaction, table, tenant, before_ms))


def _forgotten(transaction: Transaction, table: Table, tenant: str, before_ms: int | None) -> Iterator[int]:
    key = tuple_(*table.primary_key)
    some = select(*table.primary_key).where(table.c.tenant == tenant).limit(STEP)
    if before_ms is not None:
        some = some.where(table.c.created_ms < before_ms)
    while True:
        with transaction() as connection:
            count = connection.execute(delete(table).where(key.in_(some))).rowcount
        yield count
        if count < STEP:
            return


def free(engine: Engine, transaction: Transaction, dropped: dict[Table, int]) -> None:
    """Give back what the dropped rows held."""
    if engine.dialect.name == "sqlite":
        _free_sqlite(engine, transaction)
    else:
        _free_postgresql(engine, dropped)


def _free_sqlite(engine: Engine, transaction: Transaction) -> None:
    """Pages of the file's end are moved to where it has room, and it is cut off there."""
    before, left = 1, 0
    while before != left:  # until nothing moves any more
        with transaction() as connection:
            before = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            moving = connection.connection.cursor().execute(f"PRAGMA incremental_vacuum({_PAGES})")
            moving.fetchall()  # a row without columns for each page: SQLAlchemy would fetch none of them
            left = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    with closing(engine.raw_connection()) as outside_transactions:
        outside_transactions.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _free_postgresql(engine: Engine, dropped: dict[Table, int]) -> None:
    """The space of dropped rows is for the days to come: of a log that drops a day each day the size stays.

    Of a table that has lost more than it kept, what is left is written anew. That keeps it locked, but for no longer
    than it takes to copy the smaller part, and gives the rest back to the system.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table, count in dropped.items():
            if count:
                left = connection.execute(select(func.count()).select_from(table)).scalar_one()
                connection.execute(text(f"VACUUM ({'FULL, ' * (count > left)}ANALYZE) {table.name}"))


def clear(transaction: Transaction) -> None:
    """Empty every table."""
    with transaction() as connection:
        for table in tables.metadata.sorted_tables:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"TRUNCATE {table.name}"))
            else:
                connection.execute(delete(table))
