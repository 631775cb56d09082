"""The paces of the webhooks that replays go to: shared by all replays of the process, by what the views say of each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.errors import Undecodable
from pipeline.flow.pace import Pace
from pipeline.flow.subscription import Subscription
from pipeline.kafka.codec import Codec
from pipeline.kafka.states import EndpointStates
from pipeline.kafka.topics import SUBSCRIPTIONS, TENANTS
from pipeline.profiles import PROFILES, Precondition

_LOOK_S = 0.2
_KNOWN = 20_000
"""Webhooks that are remembered; one that is used again later begins slowly."""


class View(Protocol):
    """The newest records of `subscriptions` and `tenants` (`pipeline.kafka.table.Table`)."""

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""


@dataclass(slots=True)
class _Known:
    pace: Pace = field(default_factory=Pace)
    looked_s: float = float("-inf")


class Paces:
    """By `tenant/webhook`. `now_ms` is the broker's time in milliseconds."""

    def __init__(self, view: View, states: EndpointStates, codec: Codec, now_ms: Callable[[], float]) -> None:
        self._view, self._states, self._codec, self._now_ms = view, states, codec, now_ms
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def stopped(self, path: str) -> bool:
        """Whether nothing may be added to this endpoint's deliveries at present."""
        return self._looked(path).pace.stopped(self._now_ms())

    def take(self, path: str) -> float:
        """When the turn of a delivery is (seconds of `time.monotonic`); it is taken with that."""
        return self._looked(path).pace.take(time.monotonic())

    def unusable(self, path: str) -> str | None:
        """Why a webhook that exists gets nothing now, with the command that mends it; None if it does, or is gone."""
        held = self._webhook(path)
        if held is None:
            return None
        if (unmet := self._unmet(held.tenant)) is not None:
            return f"webhook {held.webhook} is suspended: {unmet.refusal}"
        if held.active and not self._states.disable(held):
            return None
        state = "disabled by its failures" if held.active else "inactive"
        if held.replay is not None:  # nobody can activate it
            return f"the replay's own endpoint is {state}: cancel the replay, and order another one"
        command = f"pipeline webhooks activate {held.tenant} {held.webhook}"
        return f"webhook {held.webhook} is {state}: run `{command}`, or cancel the replay"

    def _looked(self, path: str) -> _Known:
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = _Known()
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        if (now_s := time.monotonic()) - known.looked_s >= _LOOK_S:
            known.looked_s = now_s
            self._known.move_to_end(path)
            self._look(path, known.pace, now_s)
        return known

    def _look(self, path: str, pace: Pace, now_s: float) -> None:
        """A state of an older generation counts for nothing."""
        held, state = self._webhook(path), self._states.of(path)
        if held is not None and state is not None and state.generation < held.generation:
            state = None
        pace.look(now_s, self._now_ms(), None if held is None else held.rate, state)

    def _unmet(self, tenant: str) -> Precondition | None:
        raw = self._view.get(TENANTS, tenant)
        try:
            held = None if raw is None else self._codec.decode_tenant(raw)
        except Undecodable:  # as below
            return None
        return PROFILES[held.profile].unmet(held) if held is not None and held.profile in PROFILES else None

    def _webhook(self, path: str) -> Subscription | None:
        raw = self._view.get(SUBSCRIPTIONS, path)
        try:
            return None if raw is None else self._codec.decode_subscription(raw)
        except Undecodable:  # who matches has told of it
            return None
