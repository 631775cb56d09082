"""Messages sorted by their headers, as a plan does it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message

from pipeline.kafka.sieve import Sorting
from pipeline.workers.sifting import Fate, Names, Tally

pytestmark = pytest.mark.replay

HEAD = bytes((0, 0, 0, 0, 1))
CLOUD = [("ce_specversion", b"1.0"), ("ce_tenant", b"acme"), ("ce_type", b"b")]


def message(offset: int, *names: bytes, headers: Any = None, value: bytes | None = HEAD + b"1234") -> Message:
    own = headers if headers is not None else list(zip(("tenant", "type"), names, strict=False))
    return Message(topic="events", partition=1, offset=offset, value=value, headers=own, timestamp=(1, 1_000 + offset))


def test_each_message_meets_the_fate_of_its_names() -> None:
    """Skipped ones are only counted as looked at, counted ones tallied by names, and the rest is to be read."""
    fates: dict[Names, Fate] = {
        (b"acme", b"a"): Fate.SKIP,
        (b"acme", b"b"): Fate.COUNT,
        (b"shop", b"b"): Fate.COUNT,
        (b"shop", b"c"): Fate.READ,
    }
    kinds = [(b"acme", b"a"), (b"acme", b"b"), (b"shop", b"b"), (b"shop", b"c"), (b"acme", b"b")]
    made = Sorting(HEAD)([message(n, *names) for n, names in enumerate(kinds)], fates)
    assert made.scanned == len(kinds)
    assert made.counted == {(b"acme", b"b"): Tally(2, 18, 1_001, 1_004), (b"shop", b"b"): Tally(1, 9, 1_002, 1_002)}
    assert [(record.offset, record.headers[0]) for record in made.read] == [(3, ("tenant", b"shop"))]
    assert not made.unknown


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], HEAD),
        ([("tenant", b"acme")], HEAD),
        ([("tenant", b"acme"), ("type", b"b")], b"\0\0\0\0\2other"),
        ([("tenant", b"acme"), ("type", b"b")], b"{}"),
        ([("tenant", b"acme"), ("type", b"b")], None),
        (CLOUD, HEAD),
    ],
    ids=["no headers", "no type", "another schema", "no Avro", "empty", "CloudEvent"],
)
def test_what_cannot_be_counted_by_its_headers_is_read(headers: list[tuple[str, bytes]], value: bytes | None) -> None:
    """Only of a record of our own schema do the headers say enough; whether another can be read is not known."""
    made = Sorting(HEAD)([message(1, headers=headers, value=value)], {(b"acme", b"b"): Fate.COUNT})
    assert (len(made.read), made.counted) == (1, {})


def test_a_cloud_event_is_skipped_by_its_attributes() -> None:
    """What the filter excludes need not be decoded, whoever wrote it."""
    made = Sorting(HEAD)([message(1, headers=CLOUD)], {(b"acme", b"b"): Fate.SKIP})
    assert (made.scanned, made.read) == (1, [])


def test_messages_without_a_fate_are_held_back_until_they_have_one() -> None:
    """Nothing is lost or counted twice: they come first once their names are known, and count as looked at then."""
    sorting, fates = Sorting(HEAD), dict[Names, Fate]()
    made = sorting([message(1, b"acme", b"a"), message(2, b"acme", b"b")], fates)
    assert (made.scanned, made.unknown) == (0, {(b"acme", b"a"), (b"acme", b"b")})
    made = sorting([message(3, b"acme", b"a")], {(b"acme", b"a"): Fate.READ})
    assert ([record.offset for record in made.read], made.scanned) == ([1, 3], 2)
    made = sorting([], {(b"acme", b"b"): Fate.COUNT})
    assert (made.scanned, made.counted, sorting.held_back) == (1, {(b"acme", b"b"): Tally(1, 9, 1_002, 1_002)}, [])
