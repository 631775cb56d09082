"""The outcomes of tests of webhooks' configurations, as a view has them.

An outcome only ever shows an error, so one that cannot be read counts as none, and is told once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.trials import WebhookTest
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import WEBHOOK_TESTS

DECODED = 10_000
"""How many outcomes are kept decoded: a sender asks at every success of a webhook that has ever been tested."""
_log = structlog.get_logger()


class View(Protocol):
    """The newest records of `webhook-tests` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""


class WebhookTests:
    """The latest test of each webhook, by `tenant/webhook`."""

    def __init__(self, view: View, codec: Codec) -> None:
        self._view = view
        self._decoded = lru_cache(maxsize=DECODED)(codec.decode_webhook_test)
        self._told: set[str] = set()

    def of(self, path: str) -> WebhookTest | None:
        """The latest one; None where there is none that can be read."""
        raw = self._view.get(WEBHOOK_TESTS, path)
        if raw is None:
            return None
        try:
            return self._decoded(raw)
        except Undecodable as error:
            if path not in self._told:
                self._told.add(path)
                _log.error("the outcome of a test cannot be read", key=path, reason=str(error))
            return None
