"""Orders of replays, as a view has them, for who sends: one look-up for each attempt of a replay's delivery."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.replay import Ordered, Replay
from pipeline.flow.rounds import made_ms
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import REPLAYS

_log = structlog.get_logger()


class View(Protocol):
    """The newest records of `replays` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""


class _Read(NamedTuple):
    raw: bytes
    order: Replay | None


class CancelledReplays:
    """Which deliveries of replays, and of orders over dead letters, are not to be sent any more.

    An order is decoded once for each of its records. One that cannot be read cancels nothing, and is told.
    """

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec
        self._read: dict[str, _Read] = {}

    def __call__(self, replay: str, round_: str) -> bool:
        """Whether this round of a delivery of the replay, or of the order, was cancelled with it.

        A round that was begun after the cancelling is somebody's own order to send the delivery.
        """
        raw = self._view.get(REPLAYS, replay)
        if raw is None:
            self._read.pop(replay, None)
            return False
        order = self._order(replay, raw)
        return order is not None and order.ordered is Ordered.CANCELLED and made_ms(round_) <= order.updated_ms

    def _order(self, replay: str, raw: bytes) -> Replay | None:
        read = self._read.get(replay)
        if read is None or read.raw != raw:
            read = self._read[replay] = _Read(raw, self._decoded(replay, raw))
        return read.order

    def _decoded(self, replay: str, raw: bytes) -> Replay | None:
        try:
            return self._codec.decode_replay(raw)
        except Undecodable as error:
            _log.warning("an order of a replay cannot be read", replay=replay, reason=str(error))
            return None
