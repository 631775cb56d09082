"""The ladder: a wait is a sum of tiers, each a topic whose records all wait equally long.

A wait is never made shorter, with one exception: on a ladder that was shortened for a test (`retry-1h=50ms`) nothing
waits longer than eight of its longest tiers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import SettingsError

DEFAULT = "retry-5s retry-20s retry-60s retry-3m retry-10m retry-30m retry-1h retry-6h"
MOST_TIERS = 8
"""A retry wait is rounded up to a sum of at most this many tiers, where so many hold it."""

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_SPAN = re.compile(r"(\d+)(ms|s|m|h)")
_TOPIC = re.compile(r"retry-([1-9]\d*(?:ms|s|m|h))")


def span_ms(text: str) -> int:
    """`5s`, `100ms`, `3m`, `6h` in milliseconds. Raises `SettingsError` for anything else, and for 0."""
    found = _SPAN.fullmatch(text)
    if not found or not int(found[1]):
        raise SettingsError(f"{text!r} is not a length of time: write a whole number and ms, s, m or h, e.g. 5s")
    return int(found[1]) * _UNITS[found[2]]


def topic_span_ms(topic: str) -> int | None:
    """The wait that a tier's name says, in milliseconds; None if the topic is no tier (`retry-dlq`)."""
    found = _TOPIC.fullmatch(topic)
    return span_ms(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung: the topic and how long its records wait."""

    topic: str
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """The tiers, shortest first."""

    tiers: tuple[Tier, ...]

    @classmethod
    def parse(cls, text: str) -> Ladder:
        """Read `retry-5s retry-20s=200ms …`: names, and other lengths than the names say."""
        tiers = sorted((_tier(word) for word in text.replace(",", " ").split()), key=lambda tier: tier.wait_ms)
        if not any(tier.topic == "retry-60s" for tier in tiers):
            raise SettingsError("the ladder has no retry-60s: it must always be there")
        if len({tier.topic for tier in tiers}) < len(tiers):
            raise SettingsError("the ladder names a tier twice")
        return cls(tuple(tiers))

    @property
    def shortened(self) -> bool:
        """Whether a tier waits less than its name says, as in tests."""
        return any(tier.wait_ms < (topic_span_ms(tier.topic) or 0) for tier in self.tiers)

    def tier_wait_ms(self, topic: str) -> int:
        """How long a tier's records wait; one that is not in the setting waits as long as its name says."""
        named = topic_span_ms(topic) or 0
        return next((tier.wait_ms for tier in self.tiers if tier.topic == topic), named)

    def round_up(self, wait_ms: int) -> int:
        """The least wait in ms, ≥ `wait_ms`, that is walked exactly (largest tier first) in 1 to 8 tiers.

        What eight of the longest tiers do not hold takes as many of the longest as it needs: rather more hops than an
        early attempt. On a ladder that is `shortened` it becomes eight of the longest.
        """
        longest = self.tiers[-1].wait_ms
        if (least := self._least(max(wait_ms, 1), MOST_TIERS)) is not None:
            return least
        return longest * (MOST_TIERS if self.shortened else -(-wait_ms // longest))

    def _least(self, wait_ms: int, most: int) -> int | None:
        """The least exact sum ≥ `wait_ms` of at most `most` tiers; None if there is none.

        It is the next longer tier alone, or begins with the largest tier that fits, as the walk does.
        """
        if wait_ms <= 0:
            return 0
        if most == 0:
            return None
        sums = [tier.wait_ms for tier in self.tiers if tier.wait_ms >= wait_ms][:1]
        fits = [tier.wait_ms for tier in self.tiers if tier.wait_ms <= wait_ms]
        if fits and (rest := self._least(wait_ms - fits[-1], most - 1)) is not None:
            sums.append(fits[-1] + rest)
        return min(sums, default=None)

    def next_tier(self, wait_ms: int) -> Tier:
        """The tier to wait in when `wait_ms` is left: the largest not longer, else the smallest: never early."""
        return next((tier for tier in reversed(self.tiers) if tier.wait_ms <= wait_ms), self.tiers[0])


def _tier(word: str) -> Tier:
    topic, _, other = word.partition("=")
    named = topic_span_ms(topic)
    if named is None:
        raise SettingsError(f"{topic!r} is not the name of a tier: write retry-<wait>, e.g. retry-5s or retry-5s=100ms")
    return Tier(topic, span_ms(other) if other else named)
