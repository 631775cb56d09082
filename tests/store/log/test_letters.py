"""How dead letters stand, and how many there are of what: the same on both databases."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from pipeline.flow.audit import LETTER_DISCARDED
from pipeline.flow.deadletter import LetterState
from pipeline.flow.deliver import Dead, Done, Retry, Skipped
from pipeline.flow.history import AuditSeen, DeadSeen, Entry
from pipeline.store.log import DeadCount, DeadFilter, DeliveryLog, Group, open_log
from tests.store.log.entries import TENANT, attempt, audit, dead, delivery

pytestmark = [pytest.mark.contract, pytest.mark.replay]

WAITING, UNDER_WAY, REDRIVEN, DISCARDED = LetterState


def discard(number: int = 1, letter: str = "dl_1") -> AuditSeen:
    return audit(number, action=LETTER_DISCARDED, target=letter)


def stray(number: int = 1, **more: object) -> DeadSeen:
    return dead(number, webhook=None, delivery=None, reason="invalid", **more)


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([dead()], WAITING),
        ([delivery(), attempt(then=Dead("exhausted")), dead()], WAITING),
        ([dead(), delivery(round="A", offset=9)], UNDER_WAY),
        ([dead(), attempt(then=Retry(1), round="A")], UNDER_WAY),
        ([dead(), delivery(round="A", offset=9), attempt(then=Done(), round="A")], REDRIVEN),
        ([dead(), delivery(round="A", offset=9), attempt(then=Dead("gone"), round="A")], REDRIVEN),
        ([dead(), delivery(round="A", offset=9), attempt(then=Skipped(), round="A")], WAITING),
        ([dead(), attempt(then=Skipped(), round="A"), delivery(round="B", offset=9)], UNDER_WAY),
        ([dead(), attempt(then=Skipped(), round="A"), attempt(then=Done(), round="B")], REDRIVEN),
        ([dead(round="A"), delivery(round="A", offset=9)], WAITING),
        ([dead(round="B"), attempt(then=Done(), round="A")], WAITING),
        ([dead(), delivery(2, round="A")], WAITING),
        ([dead(), delivery(round="A", tenant="other")], WAITING),
        ([stray()], WAITING),
        ([stray(), delivery(append_ms=9_000)], WAITING),
        ([stray(), stray(redriven_ms=7, append_ms=7, offset=0)], REDRIVEN),
        ([stray(redriven_ms=7, append_ms=7), stray(append_ms=8, offset=0)], WAITING),
        ([stray(append_ms=1), dead(append_ms=2), delivery(round="A")], UNDER_WAY),
        ([dead(), discard()], DISCARDED),
        ([dead(), delivery(round="A"), discard()], DISCARDED),
        ([dead(), discard(letter="dl_2")], WAITING),
        ([dead(), audit(target="dl_1")], WAITING),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["one batch", "batches", "backwards"])
def test_how_a_letter_stands(log: DeliveryLog, entries: list[Entry], state: LetterState, way: str) -> None:
    """It waits until its delivery has a newer round, or its event is routed after all; a discarding outweighs both.

    A newer round of which nothing came, as it was cancelled or skipped, counts for nothing.
    """
    parts = [entries] if way == "one batch" else [[entry] for entry in entries]
    for batch in reversed(parts) if way == "backwards" else parts:
        log.write(batch)
    assert log.dead_letters(["dl_1"])["dl_1"].state is state
    for asked in LetterState:
        listed = [row.seen.id for row in log.dead(DeadFilter(state=asked), None, 9).items]
        assert ("dl_1" in listed) == (asked is state)


def test_the_newest_copy_of_a_letter_holds(log: DeliveryLog) -> None:
    """A letter that is written anew may lie in any partition: its record's time says which is newer."""
    newer = stray(append_ms=20, offset=3, partition=0, detail="now it is known")
    log.write([newer, stray(append_ms=10, offset=900, partition=2)])
    assert log.dead_letters(["dl_1"])["dl_1"].seen == newer


def test_letters_are_counted_by_what_they_have_in_common(log: DeliveryLog) -> None:
    """Groups, the largest first, with the times of their oldest and newest; of those that fit alone."""
    log.write([dead(n, webhook=f"wh_{n % 2}", reason="gone" if n < 3 else "exhausted") for n in range(5)])
    log.write([dead(9, tenant="other", type="a"), stray(8, tenant=None, event=None, type=None)])
    everything = DeadFilter()
    reasons = (DeadCount("exhausted", 3, 5_003, 5_009), DeadCount("gone", 3, 5_000, 5_002))
    assert log.dead_counts(everything, Group.REASON, 9) == (7, (*reasons, DeadCount("invalid", 1, 5_008, 5_008)))
    assert log.dead_counts(everything, Group.REASON, 1) == (7, reasons[:1])
    total, tenants = log.dead_counts(everything, Group.TENANT, 9)
    assert (total, {one.value: one.number for one in tenants}) == (7, {TENANT: 5, "other": 1, None: 1})
    own = DeadFilter(TENANT, from_ms=5_001, to_ms=5_004, state=WAITING)
    webhooks = (DeadCount("wh_1", 2, 5_001, 5_003, TENANT), DeadCount("wh_0", 1, 5_002, 5_002, TENANT))
    assert log.dead_counts(own, Group.WEBHOOK, 9) == (3, webhooks)
    assert log.dead_counts(DeadFilter(type="a"), Group.TYPE, 9) == (1, (DeadCount("a", 1, 5_009, 5_009),))
    log.write([discard(letter="dl_1")])
    assert log.dead_counts(own, Group.REASON, 9)[0] == 2


def test_letters_of_an_older_log_are_told_how_they_stand(tmp_path: Path) -> None:
    """A log that an older version has filled is brought up with what it knows of each letter."""
    url = f"sqlite:///{tmp_path}/log.sqlite"
    made = Path(open_log.__code__.co_filename).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(made))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "v0001")
        for number, (newer, delivery_state) in enumerate((("", 4), ("A", 4), ("A", 2))):
            connection.exec_driver_sql(
                "INSERT INTO deliveries VALUES (?, ?, 'w', 'e', 't', 1, ?, ?, '', 0, -1, -1, NULL, NULL, NULL, NULL, "
                "0, 0, NULL, NULL, NULL, NULL, NULL)",
                (TENANT, f"msg_{number}", newer, delivery_state),
            )
            connection.exec_driver_sql(
                "INSERT INTO dead_letters VALUES (?, ?, 'w', ?, NULL, NULL, '', 'gone', '', 1, 0, 0)",
                (f"dl_{number}", TENANT, f"msg_{number}"),
            )
    engine.dispose()
    with closing(open_log(url)) as log:
        states = {name: row.state for name, row in log.dead_letters(["dl_0", "dl_1", "dl_2"]).items()}
    assert states == {"dl_0": WAITING, "dl_1": REDRIVEN, "dl_2": WAITING}


def test_letters_of_a_delivery(log: DeliveryLog) -> None:
    """One for each of its rounds that has failed, nobody else's."""
    log.write([dead(), dead(2, delivery="msg_1", round="A"), dead(3), dead(4, tenant="other", delivery="msg_1")])
    assert {row.seen.id for row in log.dead_of(TENANT, "msg_1")} == {"dl_1", "dl_2"}
    assert log.dead_of(TENANT, "msg_9") == ()
