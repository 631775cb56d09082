from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Answers, Attempt, Dead, Verdict
from pipeline.ports import Outgoing, Record
from tests.workers.parts import CODEC, DELIVERY, NOW_MS, UNDERTAKER, delivered, read

KIB, MIB = 1024, 1024 * 1024
TOPIC_LIMIT = 8 * MIB
"""`max.message.bytes` of `retry-dlq`."""
ATTEMPT = Attempt(
    *("msg_1", "", 0, "evt-1", "acme", "wh_1", "order.paid", 1, NOW_MS, 12, Verdict.GONE, 410),
    *((("Content-Type", "application/json"),), (("Server", "x" * 8 * KIB),), b"y" * 16 * KIB, Dead("gone")),
    Answers(3, 5),
)


def letter(out: Outgoing) -> DeadLetter:
    return CODEC.dead_letter(out.value)


def test_a_letter_holds_the_record_as_it_was() -> None:
    """Where the record lay, its key, bytes and headers, the reason and the words are all there."""
    record = read("events", b"\x00\xff", 9, key=b"k", headers=(("trace", b"\x01"), ("trace", b"\x02")))
    out = UNDERTAKER.bury(record, Reason.FRAMING, "what was wrong")
    found = letter(out)
    assert (out.topic, out.key) == ("retry-dlq", b"k")
    assert (found.source, found.reason, found.detail) == (Source("events", 3, 9), Reason.FRAMING, "what was wrong")
    assert (found.key, found.value, found.headers) == (record.key, record.value, record.headers)
    assert (found.time_ms, found.digest, found.delivery, found.last_attempt) == (NOW_MS, None, None, None)


def test_a_letter_of_a_delivery_can_be_redriven_from_itself() -> None:
    """The delivery and its last attempt are inside, and the key is the webhook's."""
    out = UNDERTAKER.bury(delivered(), Reason.GONE, "gone", DELIVERY, ATTEMPT)
    assert out.key == b"acme/wh_1"
    assert letter(out).delivery == DELIVERY
    assert letter(out).last_attempt == ATTEMPT


def test_an_empty_record_has_a_letter() -> None:
    """A record without key and value is buried like any other."""
    found = letter(UNDERTAKER.bury(read(value=None, key=None), Reason.FRAMING, "empty"))
    assert (found.key, found.value) == (None, None)


@pytest.mark.parametrize("size", [8 * MIB, 9 * MIB + 1])
def test_a_value_that_is_too_large_is_pointed_to(size: int) -> None:
    """Of a value that does not fit, the letter has the first 64 KiB and the SHA-256 of all of it."""
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    found = letter(UNDERTAKER.bury(read(value=value), Reason.TOO_LARGE, "large"))
    assert found.value == value[: 64 * KIB]
    assert found.digest == hashlib.sha256(value).digest()


def test_a_value_that_fits_is_whole() -> None:
    """A value of any topic's largest size, 4 MiB, is carried whole, without a digest."""
    found = letter(UNDERTAKER.bury(read(value=bytes(4 * MIB)), Reason.FRAMING, "zeros"))
    assert found.value == bytes(4 * MIB)
    assert found.digest is None


def test_the_largest_delivery_has_a_letter_that_fits() -> None:
    """A delivery of the largest size ends in a letter that its topic takes, and that it can be redriven from."""
    delivery = replace(DELIVERY, body=bytes(4 * MIB - 400))
    out = UNDERTAKER.bury(delivered(delivery), Reason.GONE, "gone", delivery, ATTEMPT)
    assert out.size < TOPIC_LIMIT
    assert letter(out).delivery == delivery
    assert letter(out).last_attempt == ATTEMPT


@pytest.mark.parametrize(
    "record",
    [
        read(key=bytes(9 * MIB)),
        read(value=bytes(3 * MIB), headers=(("h", bytes(9 * MIB)),)),
        read(value=bytes(4 * MIB), key=bytes(3 * MIB), headers=(("h", bytes(3 * MIB)),)),
    ],
    ids=["key", "header", "all"],
)
def test_a_letter_fits_whatever_its_record_was(record: Record) -> None:
    """A compressed record can unpack to more than any topic takes: its letter is always small enough to be written."""
    out = UNDERTAKER.bury(record, Reason.FRAMING, "huge")
    assert out.size < TOPIC_LIMIT
    assert letter(out).source == Source("deliveries", 3, 5)


def test_a_repeat_has_the_same_id() -> None:
    """The same record for the same reason has one id, however often; another place or reason has another."""
    record = read("events", b"x", 9)

    def number(place: Record, reason: Reason = Reason.FRAMING) -> str:
        return letter(UNDERTAKER.bury(place, reason, "words")).id

    others = [replace(record, offset=8), replace(record, partition=0), replace(record, topic="deliveries")]
    ids = {number(record), number(record, Reason.INVALID), *map(number, others)}
    assert number(replace(record, value=b"other", timestamp_ms=0)) == number(record)
    assert len(ids) == 5


@pytest.mark.parametrize("where", ["source", "detail"])
def test_what_has_no_end_is_cut(where: str) -> None:
    """A delivery with an endless field besides its body, and words that repeat one, still end in a letter."""
    delivery = replace(DELIVERY, source="x" * 9 * MIB) if where == "source" else DELIVERY
    out = UNDERTAKER.bury(delivered(), Reason.INVALID, "x" * 9 * MIB, delivery, ATTEMPT)
    assert out.size < MIB
    assert letter(out).delivery == (None if where == "source" else DELIVERY)
