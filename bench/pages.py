"""How long a page of the delivery log takes, and how fast it is written, when many deliveries are in it (SQLite).

The rows are made by SQLite itself, in the order of time, and the indices of the lists after them: millions that are
written one by one would take the bench's whole time. What is measured then is the log as it is always opened.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.rig import say
from pipeline.flow.deliver import Answers, Attempt, Done, Verdict
from pipeline.flow.history import AttemptSeen, DeliverySeen, Entry, EventSeen, Status
from pipeline.store.log import DeliveryFilter, DeliveryLog, open_log
from pipeline.store.pages import Place

ROWS = 5_000_000
MOST_MS = 50.0
PAGE, FAR = 50, 1_000
SAMPLES = 400
TENANTS, WEBHOOKS, TYPES = 10, 20, 12
"""Of the deliveries every second is the first tenant's."""
_BATCH = 50_000
_BEGIN_MS = 1_767_225_600_000
_WRITTEN, _AT_ONCE = 40_000, 500

_FILL = """
INSERT INTO deliveries
WITH RECURSIVE numbered(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbered WHERE n + 1 < :end),
row AS (SELECT n, abs(random()) AS luck FROM numbered)
SELECT 'tenant_' || CASE luck % 2 WHEN 0 THEN 0 ELSE luck / 2 % :tenants END,
    'msg_' || substr(hex(randomblob(13)), 1, 26), 'wh_' || printf('%022d', luck / 40 % :webhooks),
    'evt_' || hex(randomblob(12)), 'orders.order.' || (luck / 1000 % :types), :begin + n * 10 / 3, '',
    CASE WHEN luck / 20000 % 100 < 93 THEN 4 WHEN luck / 20000 % 100 < 97 THEN 3 ELSE luck / 20000 % 3 END,
    '', 1, luck / 7 % 12, n, 'delivered', 200, 35, NULL, n, luck / 7 % 12, :begin + n * 10 / 3, NULL, 3, n, 1234, NULL
FROM row
"""


def run(rows: int, folder: Path) -> dict[str, float]:
    """Milliseconds a page of 50 takes (p50 and p99), the first and the thousandth; attempts written a second.

    With each attempt an event and a delivery are written.
    """
    file = folder / "log.sqlite"
    open_log(f"sqlite:///{file}").close()
    begun = time.perf_counter()
    _fill(rows, file)
    with closing(open_log(f"sqlite:///{file}")) as log:
        say(f"{rows:,} deliveries made in {time.perf_counter() - begun:.0f} s")
        near, far = _pages(log)
        say(f"a page takes {_p99(near):.1f} ms, the thousandth {_p99(far):.1f} ms (p99)")
        figures = {
            "rows": rows,
            "first_p50_ms": round(statistics.median(near), 2),
            "first_p99_ms": round(_p99(near), 2),
            "thousandth_p50_ms": round(statistics.median(far), 2),
            "thousandth_p99_ms": round(_p99(far), 2),
            "written_per_s": round(_written_per_s(log), 1),
        }
    say(f"{figures['written_per_s']:,.0f} attempts a second are written, each with its event and its delivery")
    return figures


def missed(figures: dict[str, float]) -> list[str]:
    """The floors that were not met."""
    return [
        f"pages: {name} is {figures[name]}; the floor is {MOST_MS:.0f}"
        for name in ("first_p99_ms", "thousandth_p99_ms")
        if figures[name] > MOST_MS
    ]


def _fill(rows: int, file: Path) -> None:
    sizes = {"tenants": TENANTS, "webhooks": WEBHOOKS, "types": TYPES, "begin": _BEGIN_MS}
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
            connection.execute(f"PRAGMA {setting}")
        indices = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''").fetchall()
        connection.execute("BEGIN")
        for name, _ in indices:
            connection.execute(f"DROP INDEX {name}")
        for first in range(0, rows, _BATCH):
            connection.execute(_FILL, {"first": first, "end": min(first + _BATCH, rows), **sizes})
        for _, made in indices:
            connection.execute(made)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


@dataclass(frozen=True, slots=True)
class _List:
    """One of the lists that people look at, and the place of its thousandth page; None if it has fewer."""

    tenant: str
    wanted: DeliveryFilter
    far: Place | None


def _pages(log: DeliveryLog) -> tuple[list[float], list[float]]:
    """How long single pages take, of many lists in turn."""
    lists = [_List(tenant, wanted, _far(log, tenant, wanted)) for tenant, wanted in _wanted()]
    say(f"{len(lists)} lists, {sum(one.far is not None for one in lists)} of them have a thousandth page")
    chance = random.Random(1)
    near = [_timed(log, one, None) for one in chance.choices(lists, k=SAMPLES)]
    return near, [_timed(log, one, one.far) for one in chance.choices([one for one in lists if one.far], k=SAMPLES)]


def _wanted() -> Iterator[tuple[str, DeliveryFilter]]:
    webhooks, types = (None, f"wh_{3:022d}"), (None, "orders.order.5")
    statuses = ((), (Status.DELIVERED,), (Status.FAILED,), (Status.FAILED, Status.RETRYING))
    windows = ((None, None), (_BEGIN_MS + 60_000, None))
    for tenant, webhook, type_, status, window in itertools.product(
        ("tenant_0", "tenant_3"), webhooks, types, statuses, windows
    ):
        yield tenant, DeliveryFilter(webhook, status, type_, *window)


def _far(log: DeliveryLog, tenant: str, wanted: DeliveryFilter) -> Place | None:
    """The place that the page before it ends with."""
    return log.deliveries(tenant, wanted, None, (FAR - 1) * PAGE).next


def _timed(log: DeliveryLog, one: _List, after: Place | None) -> float:
    begun = time.perf_counter()
    log.deliveries(one.tenant, one.wanted, after, PAGE)
    return (time.perf_counter() - begun) * 1_000


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _written_per_s(log: DeliveryLog) -> float:
    chance = random.Random(2)
    batches = [
        [entry for n in range(first, first + _AT_ONCE) for entry in _entries(n, chance.randbytes(13).hex())]
        for first in range(0, _WRITTEN, _AT_ONCE)
    ]
    begun = time.perf_counter()
    for batch in batches:
        log.write(batch)
    return _WRITTEN / (time.perf_counter() - begun)


def _entries(number: int, name: str) -> tuple[Entry, ...]:
    tenant, webhook, type_ = (
        f"tenant_{number % TENANTS}",
        f"wh_{number % WEBHOOKS:022d}",
        f"orders.order.{number % TYPES}",
    )
    event, delivery, now_ms = f"evt_{name}", f"msg_{name.upper()}", int(time.time() * 1_000)
    seen = EventSeen(tenant, event, type_, now_ms, number % 12, number, now_ms)
    written = (tenant, delivery, "", webhook, event, type_, now_ms, number % 12, number)
    made = DeliverySeen(*written, now_ms, 1, None, number % 12, number, 1234)
    headers = (("content-type", "application/json"), ("webhook-id", delivery), ("user-agent", "webhook-pipeline/1"))
    told = (delivery, "", 0, event, tenant, webhook, type_, 1, now_ms, 35, Verdict.DELIVERED, 200)
    attempt = Attempt(*told, headers, headers, b'{"ok": true}', Done(), Answers(number % 12, number))
    return seen, made, AttemptSeen(attempt, number % 12, number)
