"""After an attempt: what an answer means, whether to try again, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Dead, Done, Next, Outcome, Retry, Skipped, Verdict
from pipeline.flow.retry import Ladder, span_ms

DAY_MS = 24 * 3_600_000
RATE_LIMITED_MS = 60_000
"""After 429 at least this long."""

_ENDS: Mapping[Verdict, Next] = {
    Verdict.DELIVERED: Done(),
    Verdict.SKIPPED: Skipped(),
    Verdict.BLOCKED: Dead(Reason.BLOCKED.value),
    Verdict.GONE: Dead(Reason.GONE.value),
}
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class RetryRule:
    """A product's rule. `waits_ms` has one wait for each further attempt.

    A wait is made longer by up to `jitter` of itself. `heeds` says whether `Retry-After` and 429 lengthen it.
    `meanings` gives statuses a verdict of their own, which is `rejected` otherwise. Verdicts in `final` end the
    delivery.
    """

    waits_ms: tuple[int, ...]
    jitter: float = 0.0
    heeds: bool = False
    meanings: Mapping[int, Verdict] = field(default_factory=dict)
    final: Collection[Verdict] = ()

    @property
    def attempts(self) -> int:
        """How many attempts a delivery has at most."""
        return len(self.waits_ms) + 1

    def next_step(
        self, verdict: Verdict, outcome: Outcome, attempt: int, *, jitter: float, now_ms: int, ladder: Ladder
    ) -> Next:
        """What follows attempt number `attempt` (from 1).

        `jitter` is a random number in [0, 1), `now_ms` the time of the answer; the wait is rounded up to what the
        ladder can do.
        """
        if end := _ENDS.get(verdict):
            return end
        if verdict in self.final:
            return Dead(Reason.REJECTED.value)
        if attempt > len(self.waits_ms):
            return Dead(Reason.EXHAUSTED.value)
        return Retry(ladder.round_up(self.wait_ms(verdict, outcome, attempt, jitter, now_ms)))

    def wait_ms(self, verdict: Verdict, outcome: Outcome, attempt: int, jitter: float, now_ms: int) -> int:
        """How long to wait after this attempt, in milliseconds before rounding: at least the rule's own wait."""
        own = int(self.waits_ms[attempt - 1] * (1 + self.jitter * jitter))
        if not self.heeds:
            return own
        asked = min(retry_after_ms(outcome.headers, now_ms), DAY_MS)
        least = RATE_LIMITED_MS if verdict is Verdict.RATE_LIMITED else 0
        return max(own, asked, least)


def waits(spans: str) -> tuple[int, ...]:
    """`5s 5m 30m` in milliseconds."""
    return tuple(map(span_ms, spans.split()))


def retry_after_ms(headers: tuple[tuple[str, str], ...], now_ms: int) -> int:
    """How long the answer asks us to wait, in milliseconds; 0 if it does not say, or says nothing that can be meant.

    Seconds or an HTTP date (RFC 9110, section 10.2.3). A negative number and a past date ask for nothing. Of several
    headers the longest wait counts: coming later is the smaller fault. The caller bounds it.
    """
    return max(
        (_asked_ms(value.strip(), now_ms) for name, value in headers if name.lower() == "retry-after"), default=0
    )


def _asked_ms(value: str, now_ms: int) -> int:
    if value.isascii() and value.isdigit():
        significant = value.lstrip("0")
        return DAY_MS if len(significant) > _MOST_DIGITS else int(significant or "0") * 1000
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(int(aware.timestamp() * 1000) - now_ms, 0)


STANDARD = RetryRule(
    waits("5s 5m 30m 2h 5h 10h 14h 20h 24h"),
    jitter=0.2,
    heeds=True,
    meanings={
        410: Verdict.GONE,
        429: Verdict.RATE_LIMITED,
        **dict.fromkeys((301, 302, 303, 307, 308), Verdict.REDIRECT),
    },
)
"""Ten attempts over 75.6 hours: the example schedule of the Standard Webhooks specification."""
