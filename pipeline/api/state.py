"""How a webhook fares, as clients see it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pipeline.api.lists import written_time
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Subscription
from pipeline.flow.trials import WebhookTest, showing


class ConfigurationError(BaseModel):
    """What is wrong with the configuration, as its latest test has found, and what to do about it."""

    outcome: str
    advice: str
    tested_at: str


class State(BaseModel):
    """How the webhook fares. All of it begins anew when it is activated, or its URL or authentication is changed."""

    reason: str | None = Field(
        default=None,
        description="Why it is suspended, in the product's words; or why it is disabled: failing, or gone (410).",
    )
    failing_since: str | None = Field(default=None, description="The first failure after the last success.")
    failures: int = Field(default=0, description="Attempts that failed since the last success.")
    last_verdict: str | None = Field(default=None, description="Of the last attempt that changed any of this.")
    breaker_until: str | None = Field(default=None, description="Until then nothing is sent, after many failures.")
    reserved_until: str | None = Field(default=None, description="When what waits now will have had its turn.")
    capacity: float | None = Field(default=None, description="Requests per second that it takes.")
    error: ConfigurationError | None = Field(
        default=None,
        description="After three failures in a row of tests of the configuration, until a test or a delivery succeeds.",
    )


def status_and_state(
    held: Subscription, unmet: str | None, known: EndpointState | None, test: WebhookTest | None, now_ms: int
) -> tuple[str, State]:
    """The webhook's status, and its state. `unmet` is the sentence of the tenant's precondition that does not hold.

    What the senders know of an older generation counts for nothing. A time that has passed is not told.
    """
    current = None if known is None or known.generation < held.generation else known
    state = State() if current is None else _state(current, now_ms)
    state.error = _error(showing(test, held, known))
    if not held.active:
        return "inactive", state
    if unmet is not None:
        return "suspended", state.model_copy(update={"reason": unmet})
    if current is not None and current.disabled:
        return "disabled", state.model_copy(update={"reason": current.reason})
    return "active", state


def _state(known: EndpointState, now_ms: int) -> State:
    return State(
        failing_since=_time(known.failing_since_ms),
        failures=known.failures,
        last_verdict=known.last_verdict,
        breaker_until=_time(known.breaker_until_ms, now_ms),
        reserved_until=_time(known.reserved_until_ms, now_ms),
        capacity=known.capacity,
    )


def _error(test: WebhookTest | None) -> ConfigurationError | None:
    if test is None:
        return None
    return ConfigurationError(outcome=test.outcome, advice=test.advice, tested_at=written_time(test.time_ms))


def _time(time_ms: int | None, after_ms: int = -1) -> str | None:
    return None if time_ms is None or time_ms <= after_ms else written_time(time_ms)
