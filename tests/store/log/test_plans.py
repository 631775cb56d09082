"""How the databases go about what the log is asked: along one index, no further than what is given out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from pipeline.flow.deadletter import LetterState
from pipeline.flow.history import Entry, Status
from pipeline.store.log import (
    AuditFilter,
    DeadFilter,
    DeliveryFilter,
    DeliveryLog,
    EventFilter,
    letters,
    open_log,
    queries,
)
from tests.store.log.conftest import KINDS
from tests.store.log.entries import attempt, audit, dead, delivery, event

pytestmark = pytest.mark.contract

ROWS, TENANTS, WEBHOOKS, TYPES = 12_000, 2, 3, 5
NEWEST = 3_000 + ROWS
LIMIT = 6
REASONS = ("gone", "exhausted")
PLACES = (None, (-(NEWEST - ROWS // 2), "msg_5"))
TIMES = ((None, None), (3_100, None), (None, NEWEST - 100), (3_100, NEWEST - 100))
STATUSES = ((), (Status.PENDING,), (Status.PENDING, Status.FAILED))


def entries() -> Iterator[Entry]:
    for n in range(ROWS):
        own = {"tenant": f"t{n % TENANTS}", "webhook": f"w{n % WEBHOOKS}", "type": f"a.{n % TYPES}"}
        yield event(n, tenant=own["tenant"], type=own["type"])
        replay, redrive = f"rpl_{n % 7}" if n % 500 == 0 else None, "rpl_9" if n % 700 == 1 else None
        yield delivery(n, **own, replay=replay, order=redrive)
        if n // 2 % 3 == 0:
            yield dead(n, **own, reason=REASONS[n % 7 % 2])
        if n // 2 % 10 == 0:
            yield audit(n, tenant=own["tenant"])


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryLog]:
    """A log of which the database knows how much is in it, so that it plans as it would in earnest."""
    if request.param == "postgresql":
        log: DeliveryLog = request.getfixturevalue("postgresql_log")
        log.clear()
        fill(log)
        yield log
        log.clear()
    else:
        folder: Path = tmp_path_factory.mktemp("plans")
        with closing(open_log(f"sqlite:///{folder}/log.sqlite")) as log:
            fill(log)
            yield log


def fill(log: DeliveryLog) -> None:
    log.write(list(entries()))
    log.write([attempt(offset=n, attempt=n, tenant="t1", round=f"R{n}") for n in range(1, 200)])
    if log._engines.dialect == "postgresql":  # which does so by itself, in time
        with log._engines.writer.begin() as connection:
            connection.exec_driver_sql("ANALYZE")


DEAD = [
    (DeadFilter(tenant, webhook, reason, type_, *times, state), after)
    for tenant, webhook in ((None, None), ("t1", None), ("t1", "w1"))
    for reason, type_, state in itertools.product((None, "gone"), (None, "a.1"), (None, LetterState.WAITING))
    for times, after in itertools.product(TIMES, PLACES)
]
DELIVERIES = [
    (DeliveryFilter(webhook, statuses, type_, *times), after)
    for webhook, type_ in itertools.product((None, "w1"), (None, "a.1"))
    for statuses, times, after in itertools.product(STATUSES, TIMES, PLACES)
]
OTHERS = {
    "delivery": queries.delivery("t1", "msg_1"),
    "event": queries.event("t1", "evt_1"),
    "attempts": queries.attempts_of("t1", "msg_1", LIMIT),
    "events": queries.events_page("t1", EventFilter(), PLACES[1], LIMIT),
    "events of a type": queries.events_page("t1", EventFilter("a.1", *TIMES[3]), PLACES[1], LIMIT),
    "changes": queries.audits_page(AuditFilter(), PLACES[0], LIMIT),
    "changes of a tenant": queries.audits_page(AuditFilter("t1"), PLACES[0], LIMIT),
}


@pytest.mark.parametrize("number", range(0, len(DELIVERIES), 12))
def test_pages_of_deliveries(filled: DeliveryLog, number: int) -> None:
    """Every combination of filters has a plan without a scan or a sort, which looks at no row in vain."""
    for wanted, after in DELIVERIES[number : number + 12]:
        query = queries.deliveries_page("t1", wanted, after, LIMIT, dialect=filled._engines.dialect)
        check(filled, query, equal=2 + (wanted.webhook is not None) + (wanted.type is not None))


@pytest.mark.parametrize(("statuses", "times", "after"), list(itertools.product(STATUSES, TIMES, PLACES)))
def test_pages_of_a_replays_deliveries(filled: DeliveryLog, statuses: Any, times: Any, after: Any) -> None:
    """As for deliveries: along its own index, which holds nothing else."""
    wanted = DeliveryFilter(None, statuses, None, times[0], times[1], "rpl_3")
    query = queries.deliveries_page("t0", wanted, after, LIMIT, dialect=filled._engines.dialect)
    check(filled, query, equal=3)


@pytest.mark.parametrize("number", range(0, len(DEAD), 12))
def test_pages_of_dead_letters(filled: DeliveryLog, number: int) -> None:
    """Every combination of filters, those by state too, is read along one index, without a sort.

    PostgreSQL may take a broader one where it knows that it passes a few rows only.
    """
    for wanted, after in DEAD[number : number + 12]:
        given = sum(one is not None for one in (wanted.tenant, wanted.webhook, wanted.reason, wanted.type))
        query = letters.page(wanted, after, LIMIT, dialect=filled._engines.dialect)
        check(filled, query, equal=1 + given, in_vain=True)


def test_a_dead_letter_by_its_id(filled: DeliveryLog) -> None:
    """As for deliveries."""
    check(filled, letters.some(["dl_1", "dl_6"]))
    check(filled, letters.of_delivery("t1", "msg_1"), in_vain=True)


@pytest.mark.parametrize("name", OTHERS)
def test_other_questions(filled: DeliveryLog, name: str) -> None:
    """As for deliveries."""
    check(filled, OTHERS[name])


def test_what_became_of_a_replays_deliveries(filled: DeliveryLog) -> None:
    """They have an index of their own, in which there is nothing else; so have a redrive's."""
    with filled._engines.reader.connect() as connection:
        told = queries.replayed("rpl_1").compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        plan = str(connection.exec_driver_sql(f"{how} {told}").all())
        assert "deliveries_by_replay" in plan
        assert "deliveries_by_redrive" in plan


def test_deliveries_of_an_event(filled: DeliveryLog) -> None:
    """As for deliveries."""
    check(filled, queries.deliveries_of_event("t1", "evt_1", LIMIT))


def check(log: DeliveryLog, query: queries.Query, *, equal: int = 0, in_vain: bool = False) -> None:
    with log._engines.reader.connect() as connection:
        dialect = connection.dialect
        told = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        faults = (
            _sqlite(connection, told, equal) if dialect.name == "sqlite" else _postgresql(connection, told, in_vain)
        )
    assert not list(faults), told


def _sqlite(connection: Connection, told: str, equal: int) -> list[str]:
    plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {told}")]
    assert any(" INDEX " in line for line in plan), plan
    assert all(line.count("=?") >= equal for line in plan if line.startswith("SEARCH")), plan
    return [line for line in plan if (line.startswith("SCAN") and " INDEX " not in line) or "TEMP B-TREE" in line]


def _postgresql(connection: Connection, told: str, in_vain: bool) -> list[str]:  # noqa: FBT001
    shown = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {told}").scalar_one()
    plan = shown if isinstance(shown, list) else json.loads(shown)
    return [text for node in _nodes(plan[0]["Plan"]) if (text := _fault(node, in_vain))]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


def _fault(node: dict[str, Any], in_vain: bool) -> str:  # noqa: FBT001
    kind = node["Node Type"]
    if kind in {"Seq Scan", "Sort", "Incremental Sort", "Bitmap Heap Scan"}:
        return str(kind)
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    if not in_vain and (removed or node["Actual Rows"] > LIMIT):
        return f"{kind}: {node['Actual Rows']} rows, {removed} in vain"
    return ""
