"""The one set against repeats: which copies of a delivery this process has worked on or is working on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

KEYS = 200_000
"""How many copies, and how many rounds, a process remembers."""

Key = tuple[str, str, int]
"""Delivery id, round, hop: one write of a delivery to `deliveries` or a tier."""


class Repeats:
    """Remembers copies by (delivery id, round, hop), and each round's last finished attempt.

    A second copy with the same key is dropped if the first is finished (postponed counts as finished) and joins it if
    it is in flight.
    """

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._finished: OrderedDict[Key, None] = OrderedDict()
        self._in_flight: dict[Key, asyncio.Future[None]] = {}
        self._attempts: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def first(self, key: Key) -> bool:
        """Whether this is the copy to work on; if not, returns when the first one has finished."""
        while (working := self._in_flight.get(key)) is not None:
            await asyncio.shield(working)
        if key in self._finished:
            return False
        self._in_flight[key] = asyncio.get_running_loop().create_future()
        return True

    def attempted(self, delivery: str, round_: str, attempt: int) -> bool:
        """Whether this round of the delivery has finished an attempt that is not lower."""
        return self._attempts.get((delivery, round_), 0) >= attempt

    def finish(self, key: Key, attempt: int = 0) -> None:
        """All that the copy caused is durable; `attempt` is the number of the attempt made for it, 0 for none."""
        self._finished[key] = None
        if attempt:
            self._attempts[key[:2]] = max(attempt, self._attempts.get(key[:2], 0))
        for remembered in (self._finished, self._attempts):
            if len(remembered) > self._keys:
                remembered.popitem(last=False)
        self._in_flight.pop(key).set_result(None)

    def give_up(self, key: Key) -> None:
        """The copy was not finished: whoever waits for it takes its place."""
        self._in_flight.pop(key).set_result(None)
