"""Replays as the API looks them up: by their ids, in the order of their making, and how far each has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.replay import OVER, Ordered, Progress, Replay
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import REPLAY_PROGRESS, REPLAYS
from pipeline.store.owned import Owned
from pipeline.store.pages import Page, Place
from pipeline.store.targets import View, not_ours

LATELY_MS = 15_000
"""So long is lately."""


class Replays:
    """Follows a view (`pipeline.kafka.table.Table`) of the orders, and of what the replayer says of them."""

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec
        self._orders: Owned[Replay] = Owned(view, REPLAYS, codec.decode_replay)
        self._told: dict[str, deque[Progress]] = {}
        self._over: set[str] = set()
        view.watch(self._changed)

    def replay(self, replay: str) -> Replay | None:
        """The order of that id."""
        return self._orders.get(replay)

    def replays(self, tenant: str | None, after: Place | None, limit: int) -> Page[Replay]:
        """The orders that follow a place, newest first: those of one tenant's events, or all."""
        return self._orders.page(tenant, after, limit)

    def of(self, tenant: str | None) -> Iterator[Replay]:
        """All orders of one tenant's events, or (None) all that there are."""
        return self._orders.of(tenant)

    async def learn(self, replays: Sequence[str]) -> None:
        """Know the schemas of what is said of these; a replayer of a newer version may have brought another.

        While it cannot be learned, nothing has been said.
        """
        with suppress(Unreachable):
            records = (self._view.get(REPLAY_PROGRESS, replay) for replay in replays)
            await self._codec.learn(not_ours(self._codec, records))

    def progress(self, replay: str) -> Progress | None:
        """How far it has come; None while no replayer has said."""
        raw = self._view.get(REPLAY_PROGRESS, replay)
        try:
            return None if raw is None else self._codec.decode_replay_progress(raw)
        except Undecodable:
            return None

    def is_over(self, order: Replay) -> bool:
        """Whether it never goes on: found out once, since all that there are may be asked for at each order."""
        if order.id not in self._over:
            told = self.progress(order.id)
            if not (order.ordered is Ordered.CANCELLED or (told is not None and told.state in OVER)):
                return False
            self._over.add(order.id)
        return True

    def lately(self, replay: str) -> tuple[Progress, Progress] | None:
        """What has been said of one that goes on: the first word of the last seconds, and the last."""
        told = self._told.get(replay)
        return (told[0], told[-1]) if told else None

    def _changed(self, topic: str, key: str) -> None:
        if topic != REPLAY_PROGRESS:
            return
        now = self.progress(key)
        if now is None or now.state in OVER:
            self._told.pop(key, None)
            return
        told = self._told.setdefault(key, deque())
        told.append(now)
        while told[0].time_ms < now.time_ms - LATELY_MS:
            told.popleft()
