"""What is dropped by day, and what is forgotten of a tenant: the rows go, and their space."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pipeline.flow.audit import TENANT_REMOVED
from pipeline.flow.history import Entry, Position
from pipeline.store.log import AuditFilter, DeadFilter, DeliveryFilter, DeliveryLog, EventFilter, retention
from pipeline.store.log.tables import attempts, metadata
from tests.store.log.entries import TENANT, attempt, audit, dead, delivery, event

pytestmark = pytest.mark.contract

DAY = dt.date(2026, 1, 10)
DAY_MS = 1_768_003_200_000
"""When that day began."""


def of_moment(number: int, time_ms: int, body: bytes = b"") -> list[Entry]:
    return [
        event(number, append_ms=time_ms),
        delivery(number, append_ms=time_ms),
        attempt(number, offset=number, started_ms=time_ms, response_body=body),
        dead(number, time_ms=time_ms),
        audit(number, time_ms=time_ms),
    ]


def count(log: DeliveryLog) -> dict[str, int]:
    with log._engines.reader.connect() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


@pytest.mark.parametrize("step", [1, 2, 3, 5_000])
def test_days_before_are_dropped(log: DeliveryLog, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Everything that was made before midnight UTC, in steps of any size; not what was made at midnight."""
    monkeypatch.setattr(retention, "STEP", step)
    times = [DAY_MS - 5, DAY_MS - 1, DAY_MS - 1, DAY_MS - 1, DAY_MS, DAY_MS + 1]
    log.write([entry for n, time_ms in enumerate(times) for entry in of_moment(n, time_ms)])
    log.write([], [Position("events", 0, 6)])
    assert log.drop_before(DAY) == 5 * 4
    assert [row.id for row in log.events(TENANT, EventFilter(), None, 9).items] == ["evt_5", "evt_4"]
    assert [row.id for row in log.deliveries(TENANT, DeliveryFilter(), None, 9).items] == ["msg_5", "msg_4"]
    assert [len(log.attempts(TENANT, f"msg_{n}")) for n in range(6)] == [0, 0, 0, 0, 1, 1]
    assert [row.seen.id for row in log.dead(DeadFilter(), None, 9).items] == ["dl_5", "dl_4"]
    assert [row.id for row in log.audits(AuditFilter(), None, 9).items] == ["aud_5", "aud_4"]
    assert log.positions() == {("events", 0): 6}
    assert log.drop_before(DAY) == 0


@pytest.mark.parametrize("step", [2, 5_000])
def test_tenant_is_forgotten(log: DeliveryLog, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """No row of it is left but the record of who changed what; others' stay."""
    monkeypatch.setattr(retention, "STEP", step)
    log.write([entry for n in range(5) for entry in of_moment(n, 1)])
    log.write([event(9, tenant="other"), delivery(9, tenant="other"), dead(9, tenant=None)])
    assert log.forget_tenant(TENANT) == 5 * 4
    assert count(log) == {
        "events": 1,
        "deliveries": 1,
        "attempts": 0,
        "dead_letters": 1,
        "discards": 0,
        "audits": 5,
        "positions": 0,
    }


@pytest.mark.parametrize("step", [1, 5_000])
def test_an_earlier_tenant_of_the_same_id_is_forgotten(
    log: DeliveryLog, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Rows that were made before a time go, those that were made at it or later stay."""
    monkeypatch.setattr(retention, "STEP", step)
    log.write([entry for n in range(6) for entry in of_moment(n, n)])
    assert log.forget_tenant(TENANT, 3) == 3 * 4
    assert [row.id for row in log.events(TENANT, EventFilter(), None, 9).items] == ["evt_5", "evt_4", "evt_3"]
    assert [len(log.attempts(TENANT, f"msg_{n}")) for n in range(6)] == [0, 0, 0, 1, 1, 1]


def test_which_tenants_were_removed_is_known(log: DeliveryLog) -> None:
    """From the record of changes, each once; what else was changed is no sign of it."""
    changes = [audit(1), audit(2, action=TENANT_REMOVED), audit(3, action=TENANT_REMOVED)]
    log.write([*changes, audit(4, action=TENANT_REMOVED, tenant="b"), audit(5, action=TENANT_REMOVED, tenant=None)])
    assert sorted(log.removed_tenants()) == sorted([TENANT, "b"])


def test_space_is_given_back(log: DeliveryLog) -> None:
    """When most of the log is dropped its files shrink, to what the rest needs."""
    randomness = random.Random(1)  # noqa: S311 # bodies that no database makes smaller
    for number in range(400):
        time_ms = DAY_MS - 1 if number % 10 else DAY_MS
        log.write(of_moment(number, time_ms, randomness.randbytes(8_192)))
    log.drop_before(dt.date(2000, 1, 1))
    before = size(log)
    log.drop_before(DAY)
    after = size(log)
    assert before > 400 * 8_192
    assert after < before / 4
    log.write(of_moment(900, DAY_MS))
    assert count(log)["attempts"] == 41


def test_small_drop_leaves_its_space_to_the_next_days(log: DeliveryLog) -> None:
    """With a day dropped and a day written, again and again, the files do not grow."""
    randomness = random.Random(2)  # noqa: S311 # as above
    sizes = []
    for day in range(6):
        for number in range(40):
            moment = DAY_MS + day * 86_400_000
            log.write(of_moment(day * 40 + number, moment, randomness.randbytes(8_192)))
        log.drop_before(DAY + dt.timedelta(days=day - 2))
        sizes.append(size(log))
    assert max(sizes[3:]) < sizes[2] * 1.5


def size(log: DeliveryLog) -> int:
    """Bytes on disk: of the file and what is still to go into it, or of the relation with the bodies."""
    if log._engines.dialect == "sqlite":
        file = Path(str(log._engines.writer.url.database))
        return file.stat().st_size + file.with_name(f"{file.name}-wal").stat().st_size
    with log._engines.reader.connect() as connection:
        return int(connection.execute(select(func.pg_total_relation_size(attempts.name))).scalar_one())
