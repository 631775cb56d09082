"""What lists of the log give: the same on both databases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.flow.deliver import Dead, Done, Next, Retry, Skipped
from pipeline.flow.history import Entry, Status
from pipeline.store.log import AuditFilter, DeadFilter, DeliveryFilter, DeliveryLog, EventFilter
from pipeline.store.pages import Page, Place
from tests.store.log.entries import TENANT, attempt, audit, dead, delivery, event

pytestmark = pytest.mark.contract

WEBHOOKS, TYPES = ("wh_1", "wh_2"), ("order.paid", "order.sent")
NEXTS: tuple[Next | None, ...] = (None, Done(), Retry(1), Dead("gone"), Skipped())


def many() -> list[Entry]:
    """Sixty deliveries of each tenant, two of each millisecond, of every kind in turn."""
    entries: list[Entry] = []
    kinds = itertools.cycle(itertools.product(WEBHOOKS, TYPES, NEXTS))
    for number, (webhook, type_, then) in zip(range(60), kinds, strict=False):
        for tenant in (TENANT, "other"):
            own = {"tenant": tenant, "webhook": webhook, "type": type_}
            entries.append(delivery(number, append_ms=1_000 + number // 2, **own))
            if then is not None:
                entries.append(attempt(number, then, offset=number, **own))
    return entries


@pytest.fixture
def filled(log: DeliveryLog) -> DeliveryLog:
    log.write(many())
    return log


def walked(page: Callable[[Place | None], Page[Any]]) -> list[Any]:
    """All that follow each other."""
    found: list[Any] = []
    after: Place | None = None
    while True:
        part = page(after)
        found += part.items
        if part.next is None:
            return found
        after = part.next


@pytest.mark.parametrize("window", [(None, None), (1_005, 1_020)], ids=["always", "window"])
@pytest.mark.parametrize("type_", [None, TYPES[1]])
@pytest.mark.parametrize("webhook", [None, WEBHOOKS[1]])
def test_every_combination_of_filters(
    filled: DeliveryLog, webhook: str | None, type_: str | None, window: tuple[int | None, int | None]
) -> None:
    """Page by page, the newest first, come all deliveries that fit, each once, and no others'."""
    everything = filled.deliveries(TENANT, DeliveryFilter(), None, 200).items
    assert len(everything) == 60
    assert list(everything) == sorted(everything, key=lambda row: (row.created_ms, row.id), reverse=True)
    for statuses in ((), *((one,) for one in Status), (Status.FAILED, Status.CANCELLED)):
        wanted = DeliveryFilter(webhook, statuses, type_, *window)
        fitting = [
            row
            for row in everything
            if (webhook is None or row.webhook == webhook)
            and (type_ is None or row.type == type_)
            and (not statuses or row.status in statuses)
            and (window[0] is None or row.created_ms >= window[0])
            and (window[1] is None or row.created_ms < window[1])
        ]
        found = walked(lambda after, wanted=wanted: filled.deliveries(TENANT, wanted, after, 7))  # type: ignore[misc]
        assert found == fitting
        assert fitting or Status.SENDING in statuses


def test_a_replays_deliveries(filled: DeliveryLog) -> None:
    """Page by page those of it alone, of this tenant; other filters narrow them further."""
    made = [delivery(100 + n, append_ms=900 + n, replay="rpl_1" if n % 3 else "rpl_2") for n in range(30)]
    filled.write([*made, delivery(200, tenant="other", replay="rpl_1"), attempt(101, Done(), offset=101)])
    wanted = DeliveryFilter(replay="rpl_1")
    found = walked(lambda after: filled.deliveries(TENANT, wanted, after, 7))
    assert [row.id for row in found] == [f"msg_{100 + n}" for n in reversed(range(30)) if n % 3]
    done = filled.deliveries(TENANT, DeliveryFilter(statuses=(Status.DELIVERED,), replay="rpl_1"), None, 7).items
    assert [row.id for row in done] == ["msg_101"]
    assert not filled.deliveries(TENANT, DeliveryFilter("wh_2", replay="rpl_1"), None, 7).items


def test_page_that_is_just_full_is_the_last(filled: DeliveryLog) -> None:
    """`next` is None where nothing follows, so that nobody asks for an empty page."""
    assert filled.deliveries(TENANT, DeliveryFilter(), None, 60).next is None
    assert filled.deliveries(TENANT, DeliveryFilter(), None, 59).next is not None


def test_list_goes_on_where_it_was(filled: DeliveryLog) -> None:
    """Deliveries that are made between two pages, or change, neither come again nor push others out."""
    first = filled.deliveries(TENANT, DeliveryFilter(), None, 30)
    filled.write([delivery(900, append_ms=5_000), attempt(1, Done(), round="A", offset=900)])
    rest = filled.deliveries(TENANT, DeliveryFilter(), first.next, 60)
    ids = [row.id for row in (*first.items, *rest.items)]
    assert sorted(ids) == sorted(f"msg_{number}" for number in range(60))


def test_page_does_not_reach_before_its_end(filled: DeliveryLog) -> None:
    """An end that is earlier than the place of the page before holds all the same."""
    rows = filled.deliveries(TENANT, DeliveryFilter(to_ms=1_003), (-1_020, "msg_40"), 60).items
    assert {row.created_ms for row in rows} == {1_000, 1_001, 1_002}


def test_what_became_of_a_replays_deliveries(log: DeliveryLog) -> None:
    """How many there are in each state, whosever they are; those of no replay and of others are not counted."""
    log.write([delivery(number, replay="rpl_1") for number in range(5)])
    log.write([delivery(1, tenant="other", replay="rpl_1"), delivery(6, replay="rpl_2"), delivery(7)])
    log.write([attempt(number, Done(), attempt=1, offset=number) for number in range(2)])
    assert log.replayed("rpl_1") == {Status.PENDING: 4, Status.DELIVERED: 2}
    assert log.replayed("rpl_3") == {}


def test_what_became_of_a_redrives_deliveries(log: DeliveryLog) -> None:
    """Those that it has sent again, also of a replay, which counts them too; one that was redelivered since is not."""
    log.write([delivery(number, round="A", order="rpl_9", replay="rpl_1" if number else None) for number in range(3)])
    log.write([attempt(1, Done(), round="A"), delivery(2, round="B", offset=9, replay="rpl_1"), delivery(4)])
    assert log.replayed("rpl_9") == {Status.PENDING: 1, Status.DELIVERED: 1}
    assert log.replayed("rpl_1") == {Status.PENDING: 1, Status.DELIVERED: 1}


def test_deliveries_of_an_event(log: DeliveryLog) -> None:
    """Each webhook's, those of replays too."""
    log.write([delivery(1), delivery(1, webhook="wh_0", id="msg_z"), delivery(1, id="msg_r", replay="rp"), delivery(2)])
    log.write([delivery(1, tenant="other")])
    assert [row.id for row in log.deliveries_of_event(TENANT, "evt_1")] == ["msg_z", "msg_1", "msg_r"]
    assert [row.id for row in log.deliveries_of_event(TENANT, "evt_1", limit=1)] == ["msg_z"]


def test_events_by_type_and_time(log: DeliveryLog) -> None:
    """As deliveries: filters, and pages that follow each other."""
    log.write([event(number, type=TYPES[number % 2]) for number in range(20)])
    log.write([event(3, tenant="other")])
    found = walked(lambda after: log.events(TENANT, EventFilter(TYPES[1], 2_003, 2_011), after, 2))
    assert [row.id for row in found] == ["evt_9", "evt_7", "evt_5", "evt_3"]
    assert len(walked(lambda after: log.events(TENANT, EventFilter(), after, 7))) == 20


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (DeadFilter(), [7, 6, 5, 4, 3, 2, 1, 0]),
        (DeadFilter(tenant="t1"), [7, 5, 3, 1]),
        (DeadFilter(tenant="t1", webhook="w1"), [7, 3]),
        (DeadFilter(reason="gone"), [7, 6, 5, 4]),
        (DeadFilter(tenant="t1", reason="gone"), [7, 5]),
        (DeadFilter(tenant="t1", webhook="w1", reason="gone", type="a"), [7]),
        (DeadFilter(type="b"), []),
        (DeadFilter(from_ms=5_003, to_ms=5_006), [5, 4, 3]),
    ],
)
def test_dead_letters_by(log: DeliveryLog, wanted: DeadFilter, numbers: list[int]) -> None:
    """Every filter, alone and with others."""
    log.write(
        [
            dead(n, tenant=f"t{n % 2}", webhook=f"w{n // 2 % 2}", reason=("rejected", "gone")[n // 4], type="a")
            for n in range(8)
        ]
    )
    found = walked(lambda after: log.dead(wanted, after, 3))
    assert [letter.seen.id for letter in found] == [f"dl_{number}" for number in numbers]


def test_changes_by_tenant_and_time(log: DeliveryLog) -> None:
    """A tenant's, or everybody's."""
    log.write([audit(n, tenant=f"t{n % 2}" if n else None) for n in range(8)])
    assert len(walked(lambda after: log.audits(AuditFilter(), after, 3))) == 8
    found = walked(lambda after: log.audits(AuditFilter("t1", 6_002, 6_007), after, 1))
    assert [change.id for change in found] == ["aud_5", "aud_3"]
