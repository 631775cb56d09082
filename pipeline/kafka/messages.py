from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller

from confluent_kafka import Message

from pipeline.ports import UNREADABLE, Record


def as_record(message: Message) -> Record:
    """A message as librdkafka gives it (no error), as a record: raw bytes, nothing decoded."""
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        _headers(message),
        message.timestamp()[1],
    )


_asked = methodcaller("headers")
"""For a name that is not UTF-8 the library returns pairs without a name, and an error beside them.

A call by way of C looks whether there is an error; the interpreter's own quick call does not, and the process dies.
"""


def headers_of(message: Message) -> Sequence[tuple[str, bytes | None]]:
    """The headers as they are; `UNREADABLE` where one's name is not UTF-8."""
    try:
        found: Sequence[tuple[str, bytes | None]] = _asked(message) or ()  # a list of pairs, whatever its type says
    except (SystemError, UnicodeDecodeError):
        return UNREADABLE
    return found


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    found = headers_of(message)
    return UNREADABLE if found is UNREADABLE else tuple([(name, value or b"") for name, value in found])
