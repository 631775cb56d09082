"""What the senders have written of endpoints, as a view has it: decoded when somebody asks.

A state only ever makes less happen, so one that cannot be read counts as none, and is told once: no delivery waits for
it, and none becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Subscription
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import ENDPOINT_STATE

_log = structlog.get_logger()


class View(Protocol):
    """The newest records of `endpoint-state` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(topic, key)` after every change."""


class EndpointStates:
    """The states by `tenant/webhook`. `unreadable` has those that were met and could not be read, and why."""

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec
        self._disabled: dict[str, int] = {}
        self.unreadable: dict[str, Undecodable] = {}
        view.watch(self._mended)

    def of(self, path: str) -> EndpointState | None:
        """The newest state; None where there is none that can be read."""
        state = self._read(path)
        if state is not None and state.disabled:
            self._disabled[path] = state.generation
        else:
            self._disabled.pop(path, None)
        return state

    def disable(self, held: Subscription) -> bool:
        """Whether failures have disabled the webhook, as it stands."""
        state = self.of(held.path)
        return state is not None and state.disables(held.generation)

    def late(self, path: str) -> bool:
        """Whether the state could not be read for want of its schema alone: it is to be looked at again."""
        error = self.unreadable.get(path)
        return error is not None and error.reason == Reason.UNKNOWN_SCHEMA

    def switched(self, path: str) -> bool:
        """Whether a changed state says another thing of the webhook's being disabled than when it was last looked at.

        Most records only tell how far the reserved time reaches: who keeps webhooks ready need not make them anew.
        """
        before = self._disabled.get(path)
        self.of(path)
        return self._disabled.get(path) != before or self.late(path)

    @property
    def warning(self) -> str | None:
        """What an operator should know; None when all could be read."""
        if not self.unreadable:
            return None
        path, error = next(iter(self.unreadable.items()))
        return f"{len(self.unreadable)} endpoint states cannot be read and count for nothing; one is {path}: {error}"

    def _read(self, path: str) -> EndpointState | None:
        raw = self._view.get(ENDPOINT_STATE, path)
        state = None
        try:
            state = None if raw is None else self._own(path, raw)
        except Undecodable as error:
            if str(self.unreadable.get(path)) != str(error):
                _log.error("an endpoint's state cannot be read", key=path, reason=str(error))
            self.unreadable[path] = error
        else:
            self.unreadable.pop(path, None)
        return state

    def _own(self, path: str, raw: bytes) -> EndpointState:
        state = self._codec.decode_endpoint_state(raw)
        if state.path != path:
            raise Undecodable(Reason.INVALID, "it is another one's")
        return state

    def _mended(self, topic: str, path: str) -> None:
        """Who was told of is looked at again when it changes: nobody else may ask for it for long."""
        if topic == ENDPOINT_STATE and path in self.unreadable:
            self._read(path)
