"""What became of events, as a replay asks it: the same on both databases."""

from __future__ import annotations

import pytest

from pipeline.flow.deliver import Dead, Done, Retry, Skipped
from pipeline.flow.history import Status
from pipeline.flow.replay import Span
from pipeline.store.log import DeliveryLog, outcomes
from tests.store.log.entries import TENANT, attempt, delivery

pytestmark = [pytest.mark.contract, pytest.mark.replay]


def test_every_delivery_of_an_event_counts_at_its_webhook(log: DeliveryLog) -> None:
    """First deliveries and those of replays, each as it stands now; another tenant's event of the same id does not."""
    log.write([delivery(1), attempt(1, Dead("exhausted"))])
    again = {"id": "msg_9", "replay": "rpl_1", "offset": 9}
    log.write([delivery(1, **again), attempt(1, Done(), delivery="msg_9", offset=9)])
    log.write(
        [delivery(1, id="msg_2", webhook="wh_2"), delivery(2, id="msg_3"), attempt(2, Skipped(), delivery="msg_3")]
    )
    log.write([delivery(1, tenant="other"), delivery(4, id="msg_4"), attempt(4, Retry(5), delivery="msg_4")])
    found = {
        (event, webhook): sorted(held) for event, webhook, held in log.outcomes(TENANT, ["evt_1", "evt_2", "evt_3"])
    }
    assert found == {
        ("evt_1", "wh_1"): [Status.DELIVERED, Status.FAILED],
        ("evt_1", "wh_2"): [Status.PENDING],
        ("evt_2", "wh_1"): [Status.CANCELLED],
    }


def test_the_deliveries_of_the_replay_that_asks_are_left_out(log: DeliveryLog) -> None:
    """A replay that reads a part of its window again after a death judges it as it did the first time."""
    log.write([delivery(1), attempt(1, Dead("exhausted")), delivery(1, id="msg_9", replay="rpl_1", offset=9)])
    (found,) = log.outcomes(TENANT, ["evt_1"], "rpl_1")
    assert found == ("evt_1", "wh_1", (Status.FAILED,))
    (found,) = log.outcomes(TENANT, ["evt_1"], "rpl_2")
    assert set(found[2]) == {Status.FAILED, Status.PENDING}


def test_any_number_of_events_is_asked_for(log: DeliveryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several queries, each event once; ids that the log keeps in another form are told as they were asked for."""
    monkeypatch.setattr(outcomes, "AT_ONCE", 3)
    log.write([delivery(n) for n in range(10)] + [delivery(11, event="nul\0")])
    found = log.outcomes(TENANT, [*(f"evt_{n}" for n in range(10)), "evt_3", "nul\0"])
    assert sorted(event for event, _, _ in found) == sorted([*(f"evt_{n}" for n in range(10)), "nul\0"])
    assert log.outcomes(TENANT, []) == []


def test_what_of_a_window_was_delivered_is_told_by_webhook_and_type(log: DeliveryLog) -> None:
    """Each event once, however often it came there; nothing from outside of the window, before the time, of others."""
    for n in range(6):
        kind = {"type": "order.sent"} if n == 1 else {}
        log.write([delivery(n, **kind), attempt(n, Done(), offset=n, **kind)])
    log.write([delivery(2, id="msg_r", replay="rpl_1", offset=50), attempt(2, Done(), delivery="msg_r", offset=50)])
    log.write([delivery(3, id="msg_f", webhook="wh_2", offset=51), attempt(3, Dead("x"), delivery="msg_f", offset=51)])
    log.write([delivery(4, id="msg_o", tenant="other"), attempt(4, Done(), delivery="msg_o", tenant="other")])
    window = (Span(0, 1, 4), Span(1, 0, 99))
    assert sorted(log.delivered(TENANT, window, 0)) == [("wh_1", "order.paid", 2), ("wh_1", "order.sent", 1)]
    assert log.delivered(TENANT, window, 3_003, ["wh_1"]) == [("wh_1", "order.paid", 1)]
    assert log.delivered(TENANT, window, 0, ["wh_2"]) == []
    assert log.delivered(TENANT, (), 0) == []
    many = tuple(Span(n, 0, 9) for n in range(1_500))  # more partitions than one query takes
    assert sorted(log.delivered(TENANT, many, 0)) == [("wh_1", "order.paid", 5), ("wh_1", "order.sent", 1)]


@pytest.mark.parametrize("webhooks", [(), ("wh_1",)], ids=["all", "one"])
def test_both_questions_go_along_an_index(sqlite_log: DeliveryLog, webhooks: tuple[str, ...]) -> None:
    """However large the log: never every row of a tenant, let alone of all."""
    asked = [
        outcomes.of_events(TENANT, ["evt_1", "evt_2"], "rpl_1"),
        outcomes.delivered(TENANT, (Span(0, 0, 9),), 5, webhooks),
    ]
    for query in asked:
        text = str(query.compile(sqlite_log._engines.reader, compile_kwargs={"literal_binds": True}))
        with sqlite_log._engines.reader.connect() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        (search,) = [step for step in plan if "TEMP B-TREE" not in step]
        assert search.startswith("SEARCH deliveries USING INDEX"), plan
        assert "event=?" in search or "created_ms>?" in search, plan
