"""What a sender counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from pipeline.flow.deliver import Attempt, Verdict

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class AttemptMeter:
    """Counts attempts by verdict and measures how long requests take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        attempts = Counter("pipeline_attempts", "Attempts by what they came to.", ["verdict"], registry=registry)
        self._attempts = {verdict: attempts.labels(verdict.value) for verdict in Verdict}
        self._duration = Histogram(
            "pipeline_attempt_seconds", "From the start of a request to its end.", buckets=_SECONDS, registry=registry
        )

    def __call__(self, attempt: Attempt) -> None:
        """Count one attempt."""
        self._attempts[attempt.verdict].inc()
        self._duration.observe(attempt.duration_ms / 1000)
