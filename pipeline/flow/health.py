"""How an endpoint fares: failing, recovered, disabled. Decided at each attempt, from state and verdict alone."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from pipeline.errors import SettingsError
from pipeline.flow.deliver import Verdict
from pipeline.flow.event import Event
from pipeline.flow.retry import span_ms

OPERATIONS = "_operations"
"""The tenant whose events tell what the pipeline itself has noticed."""

WARNINGS_H = (72, 24)
"""After how many hours of failures only it is told that an endpoint is failing, longest first."""

_HOUR_MS = 3_600_000
_SAYS_NOTHING = frozenset({Verdict.SKIPPED, Verdict.PROXY})
"""Verdicts that say nothing of the endpoint: nothing was sent, or our own proxy failed."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What the senders know of an endpoint: a record of `endpoint-state`. Times are milliseconds since the epoch.

    It holds for the subscription's `generation` (and for an older one): a newer one begins anew. `failing_since_ms` is
    the first failure after the last success, `failures` counts the attempts that failed since, `warned_h` the hours of
    the last warning given (0: none). `reason` says why it is disabled: `gone` or `failing`. `capacity` is requests per
    second. `tested_ms` is the failed test of its configuration, by its time, after which a delivery has succeeded.
    """

    tenant: str
    webhook: str
    generation: int
    disabled: bool = False
    reason: str | None = None
    failing_since_ms: int | None = None
    failures: int = 0
    warned_h: int = 0
    breaker_until_ms: int | None = None
    reserved_until_ms: int | None = None
    capacity: float | None = None
    last_verdict: str | None = None
    tested_ms: int | None = None
    time_ms: int = 0

    @property
    def path(self) -> str:
        """The record's key: `tenant/webhook`."""
        return f"{self.tenant}/{self.webhook}"

    def disables(self, generation: int) -> bool:
        """Whether a webhook of this generation is disabled: a state of an older one counts for nothing."""
        return self.disabled and self.generation >= generation


class Change(StrEnum):
    """What is worth telling: each is the type of an operational event."""

    FAILING = "endpoint.failing"
    RECOVERED = "endpoint.recovered"
    DISABLED = "endpoint.disabled"


@dataclass(frozen=True, slots=True)
class HealthRule:
    """When an endpoint is disabled: after so long *and* so many attempts without a success between them, or if gone."""

    disable_after_ms: int
    disable_attempts: int

    @classmethod
    def parse(cls, disable_after: str, disable_attempts: int) -> HealthRule:
        """Of the settings of these names; the length of time is written like `120h`. Raises `SettingsError`."""
        try:
            return cls(span_ms(disable_after), disable_attempts)
        except SettingsError as error:
            raise SettingsError(f"PIPELINE_DISABLE_AFTER: {error}") from error

    def after(self, state: EndpointState, verdict: Verdict, now_ms: int) -> tuple[EndpointState, Change | None]:
        """The state after an attempt that ended at `now_ms`, and what is to be told of it.

        The same object where there is nothing to write down: after a success with nothing to clear, after a verdict
        that says nothing of the endpoint, and for one that is disabled: only a new generation changes that.
        """
        if verdict is Verdict.DELIVERED:
            return _succeeded(state, now_ms)
        if verdict in _SAYS_NOTHING or state.disabled:
            return state, None
        since_ms = now_ms if state.failing_since_ms is None else state.failing_since_ms
        failed = replace(
            state,
            failing_since_ms=since_ms,
            failures=state.failures + 1,
            last_verdict=verdict.value,
            time_ms=now_ms,
        )
        return self._failed(failed, now_ms - since_ms)

    def _failed(self, state: EndpointState, failing_ms: int) -> tuple[EndpointState, Change | None]:
        if state.last_verdict == Verdict.GONE:
            return replace(state, disabled=True, reason="gone"), Change.DISABLED
        if failing_ms >= self.disable_after_ms and state.failures >= self.disable_attempts:
            return replace(state, disabled=True, reason="failing"), Change.DISABLED
        due_h = next((hours for hours in WARNINGS_H if failing_ms >= hours * _HOUR_MS), 0)
        if due_h > state.warned_h:
            return replace(state, warned_h=due_h), Change.FAILING
        return state, None


def _succeeded(state: EndpointState, now_ms: int) -> tuple[EndpointState, Change | None]:
    if state.disabled or not (state.failures or state.warned_h or state.failing_since_ms is not None):
        return state, None
    verdict = Verdict.DELIVERED.value
    well = replace(state, failing_since_ms=None, failures=0, warned_h=0, last_verdict=verdict, time_ms=now_ms)
    return well, Change.RECOVERED if state.warned_h else None


def operational_event(state: EndpointState, change: Change, now_ms: int) -> Event:
    """The event of tenant `_operations` that tells a change; it names the webhook, never its URL or a secret.

    `state` is the one that `HealthRule.after` gave with the change; for a recovery the one before it, which still knows
    since when it had failed. The id is a hash of the change and of what makes it this one, so that a second
    telling is the same event.
    """
    data = {
        "tenant": state.tenant,
        "webhook": state.webhook,
        "failing_since": None if state.failing_since_ms is None else _written(state.failing_since_ms),
        "failures": state.failures,
        "last_verdict": state.last_verdict,
        "reason": state.reason,
    }
    return Event(_event_id(state, change), OPERATIONS, change.value, now_ms, json.dumps(data), subject=state.path)


def _event_id(state: EndpointState, change: Change) -> str:
    """Begun failing at another time, or warned of after more hours, it is another event."""
    began_ms = state.time_ms if state.failing_since_ms is None else state.failing_since_ms
    parts = (change.value, state.path, str(state.generation), str(began_ms), str(state.warned_h))
    return "evt_" + base64.b32encode(hashlib.sha256("|".join(parts).encode()).digest()[:16])[:26].decode()


def _written(time_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
