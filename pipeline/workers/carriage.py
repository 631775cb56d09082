"""The headers in which a delivery travels, so that the delay role never decodes a record."""

from __future__ import annotations

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Carriage
from pipeline.ports import UNREADABLE, Record

Headers = tuple[tuple[str, bytes], ...]

LIMIT = 4 * 1024 * 1024 - 512
"""Bytes of a delivery's key and value, at most: what the topics take, less room for the batch and any headers of ours.

So whatever is read can be written again.
"""
_KEY_BYTES, _NAME_BYTES = 256, 128

FIRST: Headers = (("round", b""), ("hop", b"0"), ("wait-ms", b"0"), ("slot-ms", b"0"))
"""A delivery as the router writes it."""


def to_headers(carriage: Carriage) -> Headers:
    """Numbers in decimal; `stands-for` only where it stands for a hop, `order` only where one has begun the round."""
    headers: Headers = (
        ("round", carriage.round.encode()),
        ("hop", b"%d" % carriage.hop),
        ("wait-ms", b"%d" % carriage.wait_ms),
        ("slot-ms", b"%d" % carriage.slot_ms),
    )
    if carriage.stands_for is not None:
        headers = (*headers, ("stands-for", b"%d" % carriage.stands_for))
    return headers if carriage.order is None else (*headers, ("order", carriage.order.encode()))


def carried(record: Record) -> Carriage:
    """How a delivery's record travels. Raises `Undecodable` for one that could not be written again."""
    if record.headers is UNREADABLE:
        raise Undecodable(Reason.FRAMING, "a header's name is not UTF-8: how the delivery travels cannot be told")
    key, value = record.key or b"", record.value or b""
    if len(key) > _KEY_BYTES:
        raise Undecodable(Reason.FRAMING, f"the key has {len(key)} bytes; a delivery's has up to {_KEY_BYTES}")
    if len(key) + len(value) > LIMIT:
        raise Undecodable(Reason.TOO_LARGE, f"the record has {len(value)} bytes; a delivery's has up to {LIMIT}")
    return of_headers(record.headers)


def of_headers(headers: Headers) -> Carriage:
    """What is not there is as on a first writing. Raises `Undecodable` for a value that we would not have written."""
    if headers == FIRST:
        return _FIRST
    held = dict(headers)
    stands_for, order = held.get("stands-for"), held.get("order")
    try:
        return Carriage(
            _name("round", held.get("round", b"")),
            _number(held.get("hop", b"0"), 9),
            _number(held.get("wait-ms", b"0"), 10),
            _number(held.get("slot-ms", b"0"), 15),
            None if stands_for is None else _number(stands_for, 9),
            None if order is None else _name("order", order),
        )
    except ValueError as error:
        raise Undecodable(Reason.FRAMING, f"a header of the delivery cannot be read: {error}") from error


def _name(what: str, text: bytes) -> str:
    if len(text) > _NAME_BYTES:
        raise ValueError(f"the {what} has {len(text)} bytes")
    return text.decode()


def _number(text: bytes, digits: int) -> int:
    """Digits alone, no more than a record of ours can have: a hop's fit an attempt, a wait is below 116 days."""
    if not text.isdigit() or len(text) > digits:
        raise ValueError(f"{text[:20]!r} is no number of up to {digits} digits")
    return int(text)


_FIRST = Carriage()
