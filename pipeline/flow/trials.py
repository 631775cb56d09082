"""What the tests of a webhook's configuration came to."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Subscription

TRIES = 3
"""How often a test tries; after so many failures in a row its error shows on the webhook."""


@dataclass(frozen=True, slots=True)
class WebhookTest:
    """The outcome of a webhook's latest test, and what to do about it. `time_ms` is milliseconds since the epoch.

    `failed_in_a_row` counts attempts since the last that succeeded; one that a repeat could not change counts for all
    `TRIES`. `generation` is the subscription's: of an older one the outcome counts for nothing.
    """

    tenant: str
    webhook: str
    outcome: str
    advice: str
    failed_in_a_row: int = 0
    time_ms: int = 0
    generation: int = 0

    @property
    def path(self) -> str:
        """The record's key: `tenant/webhook`."""
        return f"{self.tenant}/{self.webhook}"

    @property
    def shows(self) -> bool:
        """Whether its error shows on the webhook, until a test or a delivery succeeds."""
        return self.failed_in_a_row >= TRIES


def showing(test: WebhookTest | None, webhook: Subscription, state: EndpointState | None) -> WebhookTest | None:
    """The test whose error shows on the webhook; None where there is none, or a delivery has succeeded since.

    The sender notes in the endpoint's state which failed test a success has followed; no clocks are compared.
    """
    if test is None or not test.shows or test.generation != webhook.generation:
        return None
    followed = state is not None and state.generation == test.generation and state.tested_ms == test.time_ms
    return None if followed else test
