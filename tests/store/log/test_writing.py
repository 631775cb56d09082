"""What the log makes of entries: the same on both databases, whatever the order, however often."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from pipeline.flow.audit import LETTER_DISCARDED
from pipeline.flow.deadletter import LetterState
from pipeline.flow.deliver import Dead, Done, Next, Retry, Skipped, Verdict
from pipeline.flow.history import AttemptSeen, DeadSeen, DeliverySeen, Entry, EventSeen, Position, Status
from pipeline.store.log import (
    AuditFilter,
    DeadFilter,
    DeadRow,
    DeliveryFilter,
    DeliveryLog,
    DeliveryRow,
    EventFilter,
    EventRow,
)
from pipeline.store.log.tables import metadata
from tests.store.log.entries import TENANT, attempt, audit, dead, delivery, event

pytestmark = pytest.mark.contract

RETRY, DEAD, SKIPPED = Retry(60_000), Dead("exhausted"), Skipped()
NEXTS: tuple[Next, ...] = (Done(), RETRY, DEAD, SKIPPED)


def row(log: DeliveryLog, number: int = 1) -> DeliveryRow:
    found = log.delivery(TENANT, f"msg_{number}")
    assert found is not None
    return found


def test_delivery_is_listed_with_all_that_its_page_needs(log: DeliveryLog) -> None:
    """One row says it all: where it came from, how it stands, and when it is tried again."""
    log.write([delivery(replay="rp_1")])
    log.write([attempt(then=RETRY)])
    assert row(log) == DeliveryRow(
        *(TENANT, "msg_1", "wh_1", "evt_1", "order.paid", Status.RETRYING, "", 1, 3_001, 1_001),
        *(Verdict.TIMEOUT, 200, 25, 4_001 + 25 + 60_000, 3, 1, 0, 1, 77, "rp_1"),
    )


@pytest.mark.parametrize(
    ("entries", "status", "attempts"),
    [
        ([delivery()], Status.PENDING, 0),
        ([attempt(then=RETRY)], Status.RETRYING, 1),
        ([attempt(then=Done())], Status.DELIVERED, 1),
        ([attempt(then=DEAD)], Status.FAILED, 1),
        ([attempt(then=SKIPPED)], Status.CANCELLED, 0),
        ([attempt(then=RETRY), attempt(then=SKIPPED, offset=1, attempt=2)], Status.CANCELLED, 1),
        ([attempt(then=RETRY), attempt(then=DEAD, offset=1, attempt=2)], Status.FAILED, 2),
        ([dead()], Status.FAILED, 0),
        ([attempt(then=RETRY), dead()], Status.FAILED, 1),
        ([attempt(then=Done()), dead()], Status.DELIVERED, 1),
        ([attempt(then=DEAD), delivery(round="A", offset=9)], Status.PENDING, 0),
        ([attempt(then=DEAD), attempt(then=RETRY, round="A", offset=9)], Status.RETRYING, 1),
        ([attempt(then=DEAD, round="a"), attempt(round="Z", offset=9)], Status.FAILED, 1),
        ([attempt(then=Done(), round="A"), delivery(round="B", offset=9), dead(round="A")], Status.PENDING, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "batches"])
def test_newest_round_says_how_a_delivery_stands(
    log: DeliveryLog, entries: list[Entry], status: Status, attempts: int, *, at_once: bool
) -> None:
    """Within a round arrived outweighs given up, that outweighs cancelled, and that what is still to be tried."""
    for batch in [entries] if at_once else [[entry] for entry in entries]:
        log.write(batch)
    found = row(log)
    assert (found.status, found.attempts) == (status, attempts)
    assert (found.next_ms is not None) == (status == Status.RETRYING)
    listed = log.deliveries(TENANT, DeliveryFilter(statuses=(status,)), None, 10)
    assert listed.items == (found,)


def test_later_writings_move_its_place_and_nothing_else(log: DeliveryLog) -> None:
    """A delivery lies where it was last written, and was made when it was first."""
    log.write([delivery(offset=5, append_ms=9_000), delivery(), delivery(round="A", offset=8, append_ms=99_000)])
    log.write([delivery(offset=4, append_ms=8_000)])
    log.write([delivery(2), attempt(2, started_ms=400)])
    assert row(log, 2).created_ms == 3_002
    assert (row(log).partition, row(log).offset, row(log).created_ms) == (3, 8, 3_001)


def test_attempt_without_its_delivery_is_listed(log: DeliveryLog) -> None:
    """The record of a delivery may be gone, or read later: its attempts say whose it is; what is not known is None."""
    log.write([attempt(then=RETRY, attempt=2, started_ms=500), attempt(offset=1, attempt=3)])
    (found,) = log.deliveries(TENANT, DeliveryFilter(webhook="wh_1", type="order.paid"), None, 10).items
    assert (found.event, found.created_ms) == ("evt_1", 500)
    assert (found.time_ms, found.offset, found.partition) == (None, None, None)
    log.write([delivery()])
    log.write([attempt(offset=2, attempt=4, started_ms=400)])
    assert (row(log).created_ms, row(log).time_ms, row(log).offset) == (3_001, 1_001, 1)


def test_attempts_are_kept_whole(log: DeliveryLog) -> None:
    """Times, verdict, code, headers, body and what was next, in the order of their making, each once."""
    made = [
        attempt(then=RETRY),
        attempt(offset=1, attempt=2, then=Dead("gone"), response_body=bytes(range(256)) * 64),
        attempt(offset=2, attempt=1, round="A", then=SKIPPED, request_headers=(), hop=3),
    ]
    log.write([*reversed(made), *made])
    log.write(made)
    assert log.attempts(TENANT, "msg_1") == tuple(made)
    assert log.attempts(TENANT, "msg_1", limit=2) == tuple(made[1:])
    assert log.attempts("other", "msg_1") == ()


def test_body_is_cut(log: DeliveryLog) -> None:
    """Of an answer 16 KiB are kept, whoever wrote more into the topic."""
    log.write([attempt(response_body=bytes(20_000))])
    assert len(log.attempts(TENANT, "msg_1")[0].attempt.response_body) == 16_384


def test_dead_letters_and_changes_are_kept(log: DeliveryLog) -> None:
    """Also such as belong to no tenant."""
    stray = dead(2, tenant=None, webhook=None, delivery=None, event=None, type=None, reason="framing")
    log.write([dead(), stray, audit(), audit(2, tenant=None)])
    rows = DeadRow(stray, LetterState.WAITING), DeadRow(dead(), LetterState.WAITING)
    assert log.dead(DeadFilter(), None, 10).items == rows
    assert log.dead_letters(["dl_1", "dl_9"]) == {"dl_1": rows[1]}
    assert log.audits(AuditFilter(), None, 10).items == (audit(2, tenant=None).audit, audit().audit)
    assert log.delivery(TENANT, "msg_2") is None


def test_event_lies_where_it_was_last_written(log: DeliveryLog) -> None:
    """An event that came twice is one, in the record that is kept longer; without a timestamp its own time is taken."""
    log.write([event(), event(offset=9, append_ms=None)])
    log.write([event()])
    assert log.event(TENANT, "evt_1") == EventRow(TENANT, "evt_1", "order.paid", 1_001, 1_001, 0, 9)
    assert log.events(TENANT, EventFilter(), None, 10).items == (log.event(TENANT, "evt_1"),)
    assert log.event("other", "evt_1") is None


def test_any_text_can_be_kept_and_found(log: DeliveryLog) -> None:
    """Events' ids and types are any text: NUL, which PostgreSQL knows not, the longest, and signs of four bytes."""
    chance = random.Random(1)  # noqa: S311 # so that PostgreSQL cannot make it smaller
    odd, long = "a\0b'\";\U0001f600", "".join(map(chr, chance.choices(range(0x10000, 0x11000), k=1_024)))
    log.write(
        [event(id=odd, type=long), delivery(event=odd, type=long), attempt(then=Dead("\0"), event=odd, type=long)]
    )
    log.write([dead(event=odd, type=long, detail="\0", id="\0"), audit(detail="\0", target="\0")])
    assert [found.offset for found in log.events(TENANT, EventFilter(type=long), None, 10).items] == [1]
    assert log.event(TENANT, odd) is not None
    assert [found.id for found in log.deliveries_of_event(TENANT, odd)] == ["msg_1"]
    assert [found.id for found in log.deliveries(TENANT, DeliveryFilter(type=long), None, 10).items] == ["msg_1"]
    assert log.dead_letters(["\0"])


def test_positions_are_kept_with_the_rows(log: DeliveryLog) -> None:
    """How far each partition was read is in the same transaction, and never goes back."""
    log.write([event()], [Position("events", 0, 2), Position("attempts", 1, 7)])
    log.write([], [Position("events", 0, 1), Position("attempts", 1, 8)])
    assert log.positions() == {("events", 0): 2, ("attempts", 1): 8}


def test_batch_that_fails_leaves_nothing(log: DeliveryLog) -> None:
    """A batch is one transaction: all of it is written, or none."""
    broken = attempt(hop=None)  # no record can say so
    with pytest.raises(IntegrityError):
        log.write([event(), delivery(), broken], [Position("events", 0, 5)])
    assert contents(log) == {table: [] for table in metadata.tables}


def contents(log: DeliveryLog) -> dict[str, list[tuple[Any, ...]]]:
    with log._engines.reader.connect() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for name, table in metadata.tables.items()
        }


times, numbers = st.integers(1, 4), st.integers(1, 2)
rounds = st.sampled_from(("", "A", "B"))
records: st.SearchStrategy[Entry] = st.one_of(
    st.builds(lambda n, t: event(n, append_ms=t, time_ms=t), numbers, times),
    st.builds(lambda n, r, t: delivery(n, round=r, append_ms=t, subscriptions_offset=t), numbers, rounds, times),
    st.builds(
        lambda n, r, a, then, t: attempt(n, then, round=r, attempt=a, started_ms=t, duration_ms=t),
        *(numbers, rounds, times, st.sampled_from(NEXTS), times),
    ),
    st.builds(lambda n, r, t: dead(n, round=r, time_ms=t), numbers, rounds, times),
    st.builds(lambda n, r, t: dead(n, round=r, time_ms=t, event=None, type=None), numbers, rounds, times),
    st.builds(lambda n, t: dead(n, delivery=None, redriven_ms=t, append_ms=t), numbers, times),
    st.builds(audit, times),
    st.builds(lambda n, t: audit(10 * n + t, action=LETTER_DISCARDED, target=f"dl_{n}", time_ms=t), numbers, times),
)


def placed(entries: Sequence[Entry]) -> list[Entry]:
    """Each in a record of its own."""
    return [
        replace(entry, offset=number) if isinstance(entry, EventSeen | DeliverySeen | AttemptSeen | DeadSeen) else entry
        for number, entry in enumerate(entries)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(records, max_size=12).map(placed), data=st.data())
def test_neither_order_nor_repetition_matters(log: DeliveryLog, entries: list[Entry], data: st.DataObject) -> None:
    """The same entries, in any order and in any batches, some again and again, come to the same tables."""
    log.clear()
    log.write(entries)
    expected = contents(log)
    log.clear()
    again = [*entries, *data.draw(st.lists(st.sampled_from(entries), max_size=6))] if entries else []
    shuffled = data.draw(st.permutations(again))
    cuts = data.draw(st.lists(st.integers(0, len(shuffled)), max_size=4).map(sorted))
    for begin, end in pairwise([0, *cuts, len(shuffled)]):
        log.write(shuffled[begin:end])
    assert contents(log) == expected
