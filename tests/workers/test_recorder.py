"""What the delivery log holds of each record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow.audit import Audit
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Answers, Attempt, Carriage, Done, Verdict
from pipeline.flow.event import Event
from pipeline.flow.history import AttemptSeen, AuditSeen, DeadSeen, DeliverySeen, EventSeen
from pipeline.ports import UNREADABLE, Record
from pipeline.workers.carriage import to_headers
from pipeline.workers.recorder import Projection
from tests.workers.parts import CODEC, DELIVERY, NOW_MS, UNDERTAKER, delivered, read

EVENT = Event("evt-1", "acme", "order.paid", NOW_MS - 5_000, '{"a":1}')
ATTEMPT = Attempt(
    *("msg_1", "r2", 4, "evt-1", "acme", "wh_1", "order.paid", 2, NOW_MS, 30),
    *(Verdict.DELIVERED, 200, (), (), b"said", Done(), Answers(3, 5)),
)
PLACE = 3, 5
CLOUD = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"evt-2"),
    ("ce_type", b"order.shipped"),
    ("ce_source", b"/shop"),
    ("ce_tenant", b"acme"),
)


def project(record: Record) -> object:
    """The entry; every record here can be read."""
    missed: list[str] = []
    entry = Projection(CODEC, lambda _, reason: missed.append(reason))(record)
    assert not missed
    return entry


def event(change: Event = EVENT) -> Record:
    return read("events", CODEC.encode_event(change))


def dead(record: Record, reason: Reason = Reason.REJECTED, *more: Any) -> Record:
    """The dead letter of a record, as it is read from its topic; with a delivery and an attempt where there was one."""
    letter = UNDERTAKER.bury(record, reason, "why", *more)
    return Record("retry-dlq", 1, 9, letter.key, letter.value, (), NOW_MS)


def test_an_event_is_named_and_placed() -> None:
    """Of an event the log holds its names and times and where it lies, nothing of its data."""
    seen = EventSeen("acme", "evt-1", "order.paid", NOW_MS - 5_000, *PLACE, NOW_MS)
    assert project(event()) == seen


def test_a_cloud_event_is_named_by_its_attributes() -> None:
    """Of a CloudEvent the value is not read, so its schema need not be known; without a time it has the record's."""
    record = read("events", b"\0\0\0\x09\x09of another's schema", headers=CLOUD)
    assert project(record) == EventSeen("acme", "evt-2", "order.shipped", NOW_MS, *PLACE, NOW_MS)
    assert Projection(CODEC).value(record) is None
    assert Projection(CODEC).value(event()) == event().value


def test_a_delivery_is_placed_and_tells_where_it_comes_from() -> None:
    """Of a delivery the log holds its place and its event's, its round, and what its router knew, but no body."""
    seen = DeliverySeen(
        *("acme", "msg_1", "r2", "wh_1", "evt-1", "order.paid", NOW_MS, *PLACE, NOW_MS, 2, "rp_1", 2, 7, 11)
    )
    record = delivered(replace(DELIVERY, attempt=2, replay="rp_1"), Carriage("r2", 3))
    assert project(record) == seen
    of_order = replace(record, headers=to_headers(Carriage("r2", 3, order="rpl_9")))
    assert project(of_order) == replace(seen, order="rpl_9")


def test_an_attempt_is_held_whole() -> None:
    """An attempt is what its record says, and its place."""
    assert project(read("attempts", CODEC.encode_attempt(ATTEMPT))) == AttemptSeen(ATTEMPT, *PLACE)


def test_a_change_is_held_whole() -> None:
    """Who changed what is what its record says."""
    audit = Audit("au_1", NOW_MS, "key_1", "owner", "webhooks.create", "acme", "wh_1")
    assert project(read("audit", CODEC.encode_audit(audit))) == AuditSeen(audit)


def test_a_dead_delivery_is_its_webhooks() -> None:
    """A dead letter with a delivery says whose it is; the round is the last attempt's, else the record's own."""
    seen = DeadSeen("", "acme", "wh_1", "msg_1", "r2", "rejected", NOW_MS, 1, 9, "why", "evt-1", "order.paid")
    seen, record = replace(seen, append_ms=NOW_MS), delivered(carriage=Carriage("r1", 2))
    for attempt, round_ in ((ATTEMPT, "r2"), (None, "r1")):
        entry = project(dead(record, Reason.REJECTED, DELIVERY, attempt))
        assert isinstance(entry, DeadSeen)
        assert replace(entry, id="") == replace(seen, round=round_)


def test_a_dead_event_is_its_tenants() -> None:
    """A dead letter of an event that could be read says the tenant, the event and its type, of either kind."""
    for record, ident, kind in (
        (event(), "evt-1", "order.paid"),
        (read("events", b"\0\0\0\x09\x09?", headers=CLOUD), "evt-2", "order.shipped"),
    ):
        entry = project(dead(record, Reason.UNKNOWN_TYPE))
        assert isinstance(entry, DeadSeen)
        assert (entry.tenant, entry.event, entry.type, entry.delivery) == ("acme", ident, kind, None)


def test_a_dead_letters_event_is_known_before_it_is_read() -> None:
    """What has to be decoded inside a dead letter is told, and nothing where nothing is."""
    projection = Projection(CODEC)
    assert projection.inside(dead(event())) == event().value
    assert projection.inside(dead(read("events", b"x", headers=CLOUD))) is None
    assert projection.inside(dead(delivered())) is None
    assert projection.inside(event()) is None
    assert projection.inside(read("retry-dlq", b"no letter")) is None


@pytest.mark.parametrize(
    "record",
    [
        dead(read("events", b"poison"), Reason.FRAMING),
        dead(event(replace(EVENT, tenant="a/b")), Reason.INVALID),
        dead(read("deliveries", b"poison"), Reason.FRAMING),
        dead(read("deliveries", b"poison", headers=UNREADABLE), Reason.FRAMING),
    ],
)
def test_a_dead_letter_of_what_cannot_be_read_is_nobodys(record: Record) -> None:
    """A dead letter is in the log whatever it holds: with its reason and place, and without a tenant."""
    entry = project(record)
    assert isinstance(entry, DeadSeen)
    assert (entry.tenant, entry.webhook, entry.event, entry.round) == (None, None, None, "")
    assert (entry.partition, entry.offset, entry.detail) == (1, 9, "why")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (read("events", b"poison"), "wire format"),
        (read("events", None), "empty"),
        (read("events", event().value, headers=UNREADABLE), "not UTF-8"),
        (read("events", b"", headers=CLOUD[:-1]), "ce_tenant is missing"),
        (event(replace(EVENT, id="x" * 129)), "id must be"),
        (read("deliveries", b"\0\0\0\x09\x09"), "knows no Avro schema"),
        (delivered(replace(DELIVERY, webhook="a/b")), "id, tenant and webhook"),
        (read(value=CODEC.encode_delivery(DELIVERY), headers=(("hop", b"x"),)), "a header of the delivery"),
        (read("attempts", CODEC.encode_attempt(ATTEMPT)[:-1]), "cannot be read"),
        (read("retry-dlq", b"poison"), "wire format"),
        (read("audit", b"poison"), "wire format"),
    ],
)
def test_what_cannot_be_read_is_told_and_left_out(record: Record, words: str) -> None:
    """A bad record on any topic is no entry and no end: whoever counts such records hears of it, and why."""
    missed: list[tuple[Record, str]] = []
    assert Projection(CODEC, lambda *told: missed.append(told))(record) is None
    ((which, reason),) = missed
    assert which is record
    assert words in reason
