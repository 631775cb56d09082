"""The rounds that this process has given to deliveries: the log shows them only a moment later."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

MOST = 100_000
"""How many rounds are remembered."""


class Issued:
    """Keeps a delivery from being sent again twice: by one request at a time, and until the log shows the first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rounds: OrderedDict[str, str] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def hold(self, name: str) -> asyncio.Lock:
        """A lock for each delivery or dead letter (by its id): `async with` it."""
        return self._locks.setdefault(name, asyncio.Lock())

    def give(self, delivery: str, round_: str) -> None:
        """The delivery is about to be sent in this round."""
        self._rounds[delivery] = round_
        self._rounds.move_to_end(delivery)
        if len(self._rounds) > self._most:
            self._rounds.popitem(last=False)

    def take_back(self, delivery: str) -> None:
        """It is not known to have been sent: another request may send it."""
        self._rounds.pop(delivery, None)

    def newer(self, delivery: str, logged: str | None) -> str | None:
        """The round given to the delivery, where the log shows an older one (None: does not have the delivery yet)."""
        given = self._rounds.get(delivery)
        return given if given is not None and (logged is None or given > logged) else None
