"""A quota of events, as a token bucket: so many a second, and as many at once as the bucket holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left in the bucket at a moment. `at_s` is monotonic time in seconds."""

    tokens: float
    at_s: float


def taken(bucket: Bucket | None, count: int, now_s: float, *, rate: int, holds: int) -> tuple[Bucket, float]:
    """Take `count` tokens: the bucket then, and 0; or the bucket with nothing taken, and how many seconds it lacks.

    The bucket gains `rate` tokens a second up to `holds`, and is full at first (None). `count` is at most `holds`.
    """
    filled = holds if bucket is None else min(holds, bucket.tokens + (now_s - bucket.at_s) * rate)
    if count > filled:
        return Bucket(filled, now_s), (count - filled) / rate
    return Bucket(filled - count, now_s), 0.0
