from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.deadletter import Reason, Source
from pipeline.flow.deliver import Carriage
from pipeline.flow.retry import Ladder
from pipeline.ports import Outgoing, Record
from pipeline.workers.carriage import of_headers, to_headers
from pipeline.workers.delay import Delay
from tests.workers.parts import CODEC, LADDER, UNDERTAKER, read

SECOND = 1_000
DELAY = Delay(LADDER, UNDERTAKER)


def waiting(wait_ms: int, topic: str = "retry-5s", value: bytes = b"\x00not decoded", **more: int) -> Record:
    return read(topic, value, headers=to_headers(Carriage("r1", more.get("hop", 1), wait_ms, more.get("slot", 0))))


@pytest.mark.parametrize(
    ("wait_s", "waited_s", "topic", "rest_s"),
    [
        (5, 5, "deliveries", 0),
        (10, 5, "retry-5s", 5),
        (65, 60, "retry-5s", 5),
        (85, 60, "retry-20s", 25),
        (90_000, 21_600, "retry-6h", 68_400),
        (3, 5, "deliveries", 0),
        (7, 5, "retry-5s", 2),
    ],
)
def test_a_tier_is_subtracted(wait_s: int, waited_s: int, topic: str, rest_s: int) -> None:
    """After a tier the record goes to the largest tier within what is left, and to `deliveries` when nothing is."""
    out = DELAY(waiting(wait_s * SECOND), waited_s * SECOND)
    assert out.topic == topic
    assert of_headers(out.headers).wait_ms == rest_s * SECOND


def test_nothing_but_hop_and_wait_changes() -> None:
    """Every writing raises `hop`; key, bytes, round and slot stay as they are."""
    record = waiting(65 * SECOND, hop=4, slot=1_767_225_600_000)
    out = DELAY(record, 60 * SECOND)
    assert (out.key, out.value, out.partition) == (record.key, record.value, None)
    assert of_headers(out.headers) == Carriage("r1", 5, 5 * SECOND, 1_767_225_600_000)


@given(st.binary(max_size=50), st.integers(1, 10**8))
def test_a_record_is_never_decoded(value: bytes, wait_ms: int) -> None:
    """Whatever the bytes, they come out as they went in, after at least the wait, on tiers of the ladder only."""
    record, waited, topic = waiting(wait_ms, value=value), 0, LADDER.next_tier(wait_ms).topic
    while topic != "deliveries":
        tier = next(tier for tier in LADDER.tiers if tier.topic == topic)
        waited += tier.wait_ms
        out = DELAY(record, tier.wait_ms)
        record, topic = Record(out.topic, 0, 0, out.key, out.value, out.headers, 0), out.topic
    assert waited >= wait_ms
    assert record.value == value


def test_a_ladder_that_has_changed_still_holds_the_rest() -> None:
    """What waits in a tier that left the setting goes on with the tiers that there are now."""
    now = Delay(Ladder.parse("retry-60s retry-7s"), UNDERTAKER)
    out = now(waiting(87 * SECOND, "retry-20s"), 20 * SECOND)
    assert (out.topic, of_headers(out.headers).wait_ms) == ("retry-60s", 67 * SECOND)
    assert now(waiting(20 * SECOND, "retry-20s"), 20 * SECOND).topic == "deliveries"


def test_a_record_without_headers_is_due() -> None:
    """A record that says of no wait has waited long enough."""
    assert DELAY(read("retry-5s", b"x", headers=()), 5 * SECOND).topic == "deliveries"


def test_a_header_that_cannot_be_read_ends_in_a_dead_letter() -> None:
    """The partition goes on; the letter holds the record as it was."""
    record = read("retry-20s", b"bytes", 8, headers=(("hop", b"1"), ("wait-ms", b"soon")))
    out: Outgoing = DELAY(record, 20 * SECOND)
    letter = CODEC.dead_letter(out.value)
    assert out.topic == "retry-dlq"
    assert (letter.reason, letter.source) == (Reason.FRAMING, Source("retry-20s", 3, 8))
    assert (letter.value, letter.headers) == (record.value, record.headers)
