"""The headers in which a delivery travels, so that the delay role never decodes a record."""

from __future__ import annotations

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Carriage

Headers = tuple[tuple[str, bytes], ...]

FIRST: Headers = (("round", b""), ("hop", b"0"), ("wait-ms", b"0"), ("slot-ms", b"0"))
"""A delivery as the router writes it."""


def to_headers(carriage: Carriage) -> Headers:
    """Numbers in decimal."""
    return (
        ("round", carriage.round.encode()),
        ("hop", b"%d" % carriage.hop),
        ("wait-ms", b"%d" % carriage.wait_ms),
        ("slot-ms", b"%d" % carriage.slot_ms),
    )


def of_headers(headers: Headers) -> Carriage:
    """What is not there is as on a first writing. Raises `Undecodable` for a value that we would not have written."""
    if headers == FIRST:
        return _FIRST
    held = dict(headers)
    try:
        return Carriage(
            held.get("round", b"").decode(),
            _number(held.get("hop", b"0"), 9),
            _number(held.get("wait-ms", b"0"), 15),
            _number(held.get("slot-ms", b"0"), 15),
        )
    except ValueError as error:
        raise Undecodable(Reason.FRAMING, f"a header of the delivery cannot be read: {error}") from error


def _number(text: bytes, digits: int) -> int:
    """Digits alone, and no more of them than the number's field in an attempt can hold."""
    if not text.isdigit() or len(text) > digits:
        raise ValueError(f"{text[:20]!r} is no number of up to {digits} digits")
    return int(text)


_FIRST = Carriage()
