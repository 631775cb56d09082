"""Making dead letters: always written, whatever the record was."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace

from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Attempt, Delivery
from pipeline.ports import Clock, Codec, Outgoing, Record

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
        )
        out = self._written(letter)
        if out.size > _MOST:
            out = self._written(cut := _cut(letter))
            return out if out.size <= _MOST else self._written(replace(cut, delivery=None, last_attempt=None))
        return out

    def _written(self, letter: DeadLetter) -> Outgoing:
        key = letter.delivery.path.encode() if letter.delivery else letter.key
        return Outgoing(TOPIC, key, self.codec.encode_dead_letter(letter))


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
