"""Deliveries cancelled by hand, as a view has them: one look-up for each attempt, decoded only where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.cancels import Cancel
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import CANCELS

_log = structlog.get_logger()


class View(Protocol):
    """The newest records of `cancels` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""

    def keys(self, topic: str, group: str | None = None) -> Iterator[str]:
        """All keys."""


class Cancels:
    """Who has been cancelled. A record that cannot be read cancels nothing, and is told."""

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec

    def __call__(self, delivery: str, round_: str) -> bool:
        """Whether this round of the delivery is not to be tried any more."""
        raw = self._view.get(CANCELS, delivery)
        if raw is None:
            return False
        held = self._read(delivery, raw)
        return held is not None and held.round == round_

    def of(self, delivery: str) -> Cancel | None:
        """The newest cancelling of the delivery, whichever its round."""
        raw = self._view.get(CANCELS, delivery)
        return None if raw is None else self._read(delivery, raw)

    def all(self) -> Iterator[Cancel]:
        """Those that are remembered."""
        return (held for key in self._view.keys(CANCELS) if (held := self.of(key)) is not None)

    def _read(self, delivery: str, raw: bytes) -> Cancel | None:
        try:
            return self._codec.decode_cancel(raw)
        except Undecodable as error:
            _log.warning("a cancelling cannot be read", delivery=delivery, reason=str(error))
            return None
