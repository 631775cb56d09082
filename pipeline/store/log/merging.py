"""The statements that take rows in.

Every statement merges a row with the one that is there so that neither order nor repetition matters: it keeps the
greater of two (by round, number, place), or the smaller of two times. What a row says together moves together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Table, and_, case, literal_column, or_, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.store.log import tables
from pipeline.store.log.entries import NO_PLACE, NOTHING_TRIED

_EMPTY: ColumnElement[str] = literal_column("''")
_ZERO: ColumnElement[int] = literal_column("0")
Insert = sqlite.Insert | postgresql.Insert


def statements(dialect: Dialect) -> dict[Table, str]:
    """How a row is taken into each table, in the order in which tables are written.

    As text that goes to the driver with the rows as they are: SQLAlchemy's way with each row costs as much as all else.
    """
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    newest = ("offset", "partition")
    made = {
        tables.events: _greatest(tables.events, insert(tables.events), newest),
        tables.deliveries: _merged(insert(tables.deliveries)),
        tables.attempts: insert(tables.attempts).on_conflict_do_nothing(),
        tables.dead_letters: _greatest(tables.dead_letters, insert(tables.dead_letters), ("append_ms", *newest)),
        tables.discards: _greatest(tables.discards, insert(tables.discards), ("created_ms",)),
        tables.audits: insert(tables.audits).on_conflict_do_nothing(),
        tables.positions: _greatest(tables.positions, insert(tables.positions), ("offset",)),
    }
    return {table: str(statement.compile(dialect=dialect)) for table, statement in made.items()}


def _greatest(table: Table, insert: Insert, by: Sequence[str]) -> Insert:
    """Of two rows of one key the greater holds, whole."""
    new = insert.excluded
    greater = tuple_(*(new[name] for name in by)) > tuple_(*(table.c[name] for name in by))
    return insert.on_conflict_do_update(
        index_elements=tables.KEYS[table],
        set_={name: new[name] for name in table.c.keys() if name not in tables.KEYS[table]},  # noqa: SIM118 # of columns
        where=greater,
    )


def _merged(insert: Insert) -> Insert:
    old, new = tables.deliveries.c, insert.excluded
    tried = ("last_round", "attempt", "last_offset", "last_partition")
    later_try = tuple_(*(new[name] for name in tried)) > tuple_(*(old[name] for name in tried))
    later_place = tuple_(new["offset"], new.partition) > tuple_(old["offset"], old.partition)
    further = or_(new.round > old.round, and_(new.round == old.round, new.state > old.state))
    changes: dict[str, ColumnElement[Any]] = {
        "event": case((old.event == _EMPTY, new.event), else_=old.event),
        "type": case((old.type == _EMPTY, new.type), else_=old.type),
        "created_ms": case((_made_before(old, new), new.created_ms), else_=old.created_ms),
        "round": case((new.round > old.round, new.round), else_=old.round),
        "state": case((further, new.state), else_=old.state),
        **{name: case((later_try, new[name]), else_=old[name]) for name in NOTHING_TRIED},
        **{name: case((later_place, new[name]), else_=old[name]) for name in NO_PLACE},
    }
    return insert.on_conflict_do_update(index_elements=tables.KEYS[tables.deliveries], set_=changes)


def _made_before(old: Any, new: Any) -> ColumnElement[bool]:
    """Its first record of `deliveries` says when it was made; without any, the first that was seen of it."""
    placed, was_placed = new["offset"] >= _ZERO, old["offset"] >= _ZERO
    same_kind = placed == was_placed
    return or_(and_(same_kind, new.created_ms < old.created_ms), and_(placed, old["offset"] < _ZERO))
