"""Making dead letters: always written, whatever the record was."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Attempt, Delivery
from pipeline.ports import Clock, Codec, Outgoing, Record

TOPIC = "retry-dlq"
_CARRIED = 4 * 1024 * 1024
"""A larger value is not carried: the letter points to it, with its digest and its first 64 KiB."""
_FIRST_BYTES = 64 * 1024


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
        large = len(record.value or b"") > _CARRIED
        letter = DeadLetter(
            id=_id(record, reason),
            reason=reason,
            detail=detail,
            source=Source(record.topic, record.partition, record.offset),
            time_ms=self.clock(),
            key=record.key,
            value=record.value[:_FIRST_BYTES] if large and record.value else record.value,
            headers=record.headers,
            digest=hashlib.sha256(record.value).digest() if large and record.value else None,
            delivery=None if large else delivery,
            last_attempt=attempt,
        )
        key = delivery.path.encode() if delivery else record.key
        return Outgoing(TOPIC, key, self.codec.encode_dead_letter(letter))


def _id(record: Record, reason: Reason) -> str:
    whole = hashlib.sha256(f"{record.topic}|{record.partition}|{record.offset}|{reason}".encode())
    return "dl_" + base64.b32encode(whole.digest()[:16])[:26].decode()
