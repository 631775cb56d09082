"""The ladder: a wait is a sum of tiers, each a topic whose records all wait equally long."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import SettingsError

DEFAULT = "retry-5s retry-20s retry-60s retry-3m retry-10m retry-30m retry-1h retry-6h"
MOST_TIERS = 8
"""A retry wait is rounded up to a sum of at most this many tiers."""

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

    def round_up(self, wait_ms: int) -> int:
        """The least wait in ms, ≥ `wait_ms`, that takes at most 8 tiers when walked (largest first)."""
        walked, best = 0, self.tiers[-1].wait_ms * MOST_TIERS
        for _ in range(MOST_TIERS):
            rest = max(wait_ms, 1) - walked
            if rest <= 0:
                return walked
            above = next((tier.wait_ms for tier in self.tiers if tier.wait_ms >= rest), None)
            if above is not None and self.steps(walked + above) <= MOST_TIERS:
                best = min(best, walked + above)
            walked += self.next_tier(rest).wait_ms
        return min(best, walked) if walked >= wait_ms else best

    def next_tier(self, wait_ms: int) -> Tier:
        """The tier to wait in when `wait_ms` is left: the largest not longer, else the smallest: never early."""
        return next((tier for tier in reversed(self.tiers) if tier.wait_ms <= wait_ms), self.tiers[0])

    def steps(self, wait_ms: int) -> int:
        """How many tiers a record walks through to wait `wait_ms`."""
        count = 0
        while wait_ms > 0:
            wait_ms -= self.next_tier(wait_ms).wait_ms
            count += 1
        return count


def _tier(word: str) -> Tier:
    topic, _, other = word.partition("=")
    named = topic_span_ms(topic)
    if named is None:
        raise SettingsError(f"{topic!r} is not the name of a tier: write retry-<wait>, e.g. retry-5s or retry-5s=100ms")
    return Tier(topic, span_ms(other) if other else named)
