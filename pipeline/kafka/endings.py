"""A replay that has ended stays so, whoever comes back from a standstill and says that it goes on.

A replayer that is stopped in the middle of a replay writes no progress once it knows of that. But what its client has
in hand by then is written when it goes on, perhaps after the next owner has told how the replay has ended. Then every
replayer that has seen the end (the one that was stopped, too: it reads on) tells it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.replay import OVER, State
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import REPLAY_PROGRESS
from pipeline.ports import Outgoing, Publisher

_REMEMBERED = 1_000
_log = structlog.get_logger()


class View(Protocol):
    """The newest records of `replay-progress` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(topic, key)` after every change."""


class Endings:
    """Follows a view from now on, and remembers the latest ends that it shows."""

    def __init__(self, view: View, codec: Codec, publisher: Publisher) -> None:
        self._view, self._codec, self._publisher = view, codec, publisher
        self._ends: OrderedDict[str, bytes] = OrderedDict()
        view.watch(self._changed)

    def _changed(self, topic: str, key: str) -> None:
        if topic != REPLAY_PROGRESS:
            return
        held, end = self._view.get(topic, key), self._ends.get(key)
        state = self._state(held)
        if held is None or state is None:
            self._ends.pop(key, None)
        elif state in OVER:
            self._remember(key, held)
        elif end is not None:
            _log.warning("a replay that has ended was said to go on", replay=key)
            self._publisher.publish(Outgoing(REPLAY_PROGRESS, key.encode(), end))

    def _remember(self, key: str, end: bytes) -> None:
        self._ends[key] = end
        if len(self._ends) > _REMEMBERED:
            self._ends.popitem(last=False)

    def _state(self, held: bytes | None) -> State | None:
        """None too for what cannot be read: another version's."""
        try:
            return None if held is None else self._codec.decode_replay_progress(held).state
        except Undecodable:
            return None
