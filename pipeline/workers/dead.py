"""Making dead letters: always written, whatever the record was."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Attempt, Delivery
from pipeline.flow.rounds import FIRST
from pipeline.ports import UNREADABLE, Clock, Codec, Outgoing, Record
from pipeline.workers.carriage import of_headers

TOPIC = "retry-dlq"
_FIRST_BYTES = 64 * 1024
_DETAIL = 1_000
"""Characters: what is wrong is told in the record's own words, which may be without end."""
_MOST = 8 * 1024 * 1024 - _FIRST_BYTES
"""What the topic takes, less room for the batch around it. A larger letter points to its record: see `_cut`."""


@dataclass(frozen=True, slots=True)
class Undertaker:
    """Writes dead letters. A letter's id is a hash of where its record lay and why: a repeat has the same id."""

    codec: Codec
    clock: Clock

    def bury(
        self,
        record: Record,
        reason: Reason,
        detail: str,
        delivery: Delivery | None = None,
        attempt: Attempt | None = None,
    ) -> Outgoing:
        """The dead letter of a record; with its delivery and last attempt where there was one."""
        letter = DeadLetter(
            id=_id(record, reason),
            reason=reason,
            detail=detail[:_DETAIL],
            source=Source(record.topic, record.partition, record.offset),
            time_ms=self.clock(),
            key=record.key,
            value=record.value,
            headers=record.headers,
            delivery=delivery,
            last_attempt=attempt,
            timestamp_ms=record.timestamp_ms,
        )
        return written(letter, self.codec)


def written(letter: DeadLetter, codec: Codec) -> Outgoing:
    """A letter as a record that its topic takes, whatever the letter holds."""
    out = _written(letter, codec)
    if out.size > _MOST:
        out = _written(cut := _cut(letter), codec)
        return out if out.size <= _MOST else _written(replace(cut, delivery=None, last_attempt=None), codec)
    return out


def _written(letter: DeadLetter, codec: Codec) -> Outgoing:
    key = letter.delivery.path.encode() if letter.delivery else letter.key
    return Outgoing(TOPIC, key, codec.encode_dead_letter(letter))


def record_in(letter: DeadLetter) -> Record | None:
    """The record that was set aside; None if the letter does not hold all of it.

    Its timestamp is the letter's time in letters that do not have it.
    """
    if letter.digest is not None:
        return None
    source, headers = letter.source, UNREADABLE if letter.headers == UNREADABLE else letter.headers
    timestamp_ms = letter.time_ms if letter.timestamp_ms is None else letter.timestamp_ms
    return Record(source.topic, source.partition, source.offset, letter.key, letter.value, headers, timestamp_ms)


def round_of(letter: DeadLetter) -> str:
    """The round in which its delivery ended, as far as the letter says."""
    if letter.last_attempt is not None:
        return letter.last_attempt.round
    if letter.delivery is None:
        return FIRST
    try:
        return of_headers(letter.headers).round
    except Undecodable:
        return FIRST


def _cut(letter: DeadLetter) -> DeadLetter:
    """The value as digest and first 64 KiB (compressed, any size may have come); a delivery stays if it can."""
    value, delivery = letter.value or b"", letter.delivery
    return replace(
        letter,
        key=letter.key and letter.key[:_FIRST_BYTES],
        value=value[:_FIRST_BYTES],
        headers=letter.headers if sum(len(name) + len(text) for name, text in letter.headers) <= _FIRST_BYTES else (),
        digest=hashlib.sha256(value).digest(),
        delivery=delivery if delivery and len(delivery.body) < _MOST - 8 * _FIRST_BYTES else None,
    )


def _id(record: Record, reason: Reason) -> str:
    whole = hashlib.sha256(f"{record.topic}|{record.partition}|{record.offset}|{reason}".encode())
    return "dl_" + base64.b32encode(whole.digest()[:16])[:26].decode()
