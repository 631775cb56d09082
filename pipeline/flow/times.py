"""Times as the products and the filters write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_milliseconds(time_ms: int) -> str:
    """`2025-11-05T10:30:00.250Z` of milliseconds since the epoch."""
    seconds, rest = divmod(time_ms, 1000)
    return f"{iso_seconds(seconds)[:-1]}.{rest:03d}Z"


@lru_cache(maxsize=4096)
def iso_seconds(time_s: int) -> str:
    """`2025-11-05T10:30:00Z` of seconds since the epoch. Remembered, as events come many to a second."""
    return (_EPOCH + timedelta(seconds=time_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
