"""The delivery log as its users see it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from pipeline.flow.audit import Audit
from pipeline.flow.history import AttemptSeen, Entry, Position, Status
from pipeline.flow.replay import Span
from pipeline.store.log import letters, merging, outcomes, queries, retention, tables
from pipeline.store.log.entries import STATES, position_rows, rows
from pipeline.store.log.letters import Group
from pipeline.store.log.opening import Engines, answering, opened
from pipeline.store.log.rows import (
    AuditFilter,
    DeadCount,
    DeadFilter,
    DeadRow,
    DeliveryFilter,
    DeliveryRow,
    EventFilter,
    EventRow,
)
from pipeline.store.pages import Page, Place

R = TypeVar("R")


def open_log(url: str) -> DeliveryLog:
    """Open the log, and bring its tables up to this version's.

    `sqlite:///FILE` or `postgresql://…`. Raises `SettingsError` for another URL, and for a database that a newer
    version has brought up; `Unreachable` when it does not answer.
    """
    return DeliveryLog(opened(url))


class DeliveryLog:
    """Its methods block, may be called from any thread, and raise `Unreachable` when the database does not answer."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._statements = merging.statements(engines.writer.dialect)
        self._settling = letters.settling(engines.writer.dialect)
        self._writing = threading.Lock()

    def close(self) -> None:
        """Let go of the database."""
        self._engines.close()

    def write(self, entries: Sequence[Entry], positions: Sequence[Position] = ()) -> None:
        """`pipeline.ports.Log`."""
        made = rows(entries) | {tables.positions: position_rows(positions)}
        with self._transaction() as connection:
            for table, statement in self._statements.items():
                if made[table]:
                    connection.exec_driver_sql(statement, made[table])
            for settle, given in zip(self._settling, letters.unsettled(made), strict=True):
                if given:
                    connection.exec_driver_sql(settle, given)

    def positions(self) -> Mapping[tuple[str, int], int]:
        """How far each (topic, partition) has been read into the log: the offset of its next record."""
        return {(row.topic, row.partition): row.offset for row in self._rows(select(tables.positions))}

    def delivery(self, tenant: str, delivery: str) -> DeliveryRow | None:
        """That delivery of that tenant."""
        return self._one(queries.delivery(tenant, delivery), queries.to_delivery)

    def deliveries(self, tenant: str, wanted: DeliveryFilter, after: Place | None, limit: int) -> Page[DeliveryRow]:
        """The tenant's deliveries that follow a place, newest first. Every page takes the same time."""
        query = queries.deliveries_page(tenant, wanted, after, limit + 1, dialect=self._engines.dialect)
        return self._page(query, queries.to_delivery, limit)

    def attempts(self, tenant: str, delivery: str, limit: int = 1_000) -> tuple[AttemptSeen, ...]:
        """The last attempts of a delivery, oldest first: by round, number, and place."""
        return queries.to_attempts(self._rows(queries.attempts_of(tenant, delivery, limit)))

    def event(self, tenant: str, event: str) -> EventRow | None:
        """That event of that tenant."""
        return self._one(queries.event(tenant, event), queries.to_event)

    def events(self, tenant: str, wanted: EventFilter, after: Place | None, limit: int) -> Page[EventRow]:
        """The tenant's events that follow a place, newest first."""
        return self._page(queries.events_page(tenant, wanted, after, limit + 1), queries.to_event, limit)

    def deliveries_of_event(self, tenant: str, event: str, limit: int = 1_000) -> tuple[DeliveryRow, ...]:
        """An event's deliveries, those of replays too, in the order of their webhooks' ids."""
        return tuple(map(queries.to_delivery, self._rows(queries.deliveries_of_event(tenant, event, limit))))

    def replayed(self, replay: str) -> Mapping[Status, int]:
        """How many deliveries of a replay stand how; it takes as long as it takes to pass all of them.

        Of an order over dead letters those that nobody has sent again since.
        """
        return {STATES[row.state]: row.number for row in self._rows(queries.replayed(replay))}

    def outcomes(
        self, tenant: str, events: Sequence[str], apart_from: str | None = None
    ) -> Sequence[tuple[str, str, tuple[Status, ...]]]:
        """How the deliveries of these events stand, for each event and webhook that has any; any number of events.

        Those of replays count too, but for the replay `apart_from`.
        """
        found: list[tuple[str, str, tuple[Status, ...]]] = []
        for part in outcomes.parts(events):
            found += outcomes.to_found(self._rows(outcomes.of_events(tenant, part, apart_from)), part)
        return found

    def delivered(
        self, tenant: str, window: Sequence[Span], since_ms: int, webhooks: Sequence[str] = ()
    ) -> Sequence[tuple[str, str, int]]:
        """Webhook, type, and how many events of a window of `events` it has had; of these webhooks, or of all.

        Deliveries that were made before a time are not looked at. The rows of one webhook and type are to be added.
        """
        found: list[tuple[str, str, int]] = []
        for at in range(0, len(window), outcomes.SPANS_AT_ONCE):
            part = window[at : at + outcomes.SPANS_AT_ONCE]
            found += (tuple(row) for row in self._rows(outcomes.delivered(tenant, part, since_ms, webhooks)))
        return found

    def dead(self, wanted: DeadFilter, after: Place | None, limit: int) -> Page[DeadRow]:
        """Dead letters that follow a place, newest first."""
        query = letters.page(wanted, after, limit + 1, dialect=self._engines.dialect)
        return self._page(query, letters.to_letter, limit)

    def dead_letters(self, ids: Sequence[str]) -> Mapping[str, DeadRow]:
        """Those of these dead letters that the log has, by their ids."""
        return {row.id: letters.to_letter(row) for row in self._rows(letters.some(ids))} if ids else {}

    def dead_of(self, tenant: str, delivery: str) -> tuple[DeadRow, ...]:
        """The dead letters of a delivery, in no order."""
        return tuple(map(letters.to_letter, self._rows(letters.of_delivery(tenant, delivery))))

    def dead_counts(self, wanted: DeadFilter, by: Group, limit: int) -> tuple[int, tuple[DeadCount, ...]]:
        """How many dead letters there are, and how many in each group, the largest first.

        It takes as long as it takes to pass all that are counted.
        """
        groups = tuple(letters.to_count(by, row) for row in self._rows(letters.counts(wanted, by, limit)))
        return int(self._rows(letters.total(wanted))[0][0]), groups

    def audits(self, wanted: AuditFilter, after: Place | None, limit: int) -> Page[Audit]:
        """Changes that follow a place, newest first."""
        return self._page(queries.audits_page(wanted, after, limit + 1), queries.to_audit, limit)

    def removed_tenants(self) -> tuple[str, ...]:
        """The ids of tenants that were removed, as far as the log knows; there may be later ones of these ids."""
        return tuple(row.tenant for row in self._rows(queries.removed_tenants()))

    def forget_tenant(self, tenant: str, before_ms: int | None = None) -> int:
        """Remove all rows of a tenant, or those that were made before a time, in steps; how many.

        The record of who changed what stays.
        """
        return retention.forget_tenant(self._transaction, tenant, before_ms)

    def drop_before(self, day: dt.date) -> int:
        """Remove what was made before that day (UTC) began, in steps, and give its space back; how many rows."""
        begin = dt.datetime.combine(day, dt.time(), dt.UTC)
        dropped = retention.drop_before(self._transaction, int(begin.timestamp() * 1000))
        with answering():
            retention.free(self._engines.writer, self._transaction, dropped)
        return sum(dropped.values())

    def clear(self) -> None:
        """Empty the log, its positions too."""
        retention.clear(self._transaction)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._writing, answering(), self._engines.writer.begin() as connection:
            yield connection

    def _rows(self, query: Any) -> Sequence[Row[Any]]:
        with answering(), self._engines.reader.connect() as connection:
            return connection.execute(query).all()

    def _one(self, query: Any, made: Callable[[Row[Any]], R]) -> R | None:
        found = self._rows(query)
        return made(found[0]) if found else None

    def _page(self, query: Any, made: Callable[[Row[Any]], R], limit: int) -> Page[R]:
        """One more than the limit was asked for, to know whether it goes on."""
        found = self._rows(query)
        last = found[limit - 1] if len(found) > limit else None
        return Page(tuple(map(made, found[:limit])), None if last is None else (-last.created_ms, last.id))
