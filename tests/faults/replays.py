"""Replays of what the harness has sent before, one after the other, so that every fault strikes during one.

Each is ordered as the API orders it, of all tenants, to the webhooks that got the events first. Its window begins where
the one before ended.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Producer

from pipeline.flow.replay import Ordered, Replay, Span
from pipeline.kafka import topics
from pipeline.kafka.clients import producer_config
from pipeline.kafka.codec import Codec
from tests.faults.attack import Books
from tests.faults.log import Log, now_ms
from tests.faults.system import Say, System
from tests.faults.topics import REPLAYER, ends_of, lagging

ORDERED = "replay"
"""The entry in the log of faults: which replay, of what was acknowledged by then, and where its window ends."""
_LOOK_S = 1.0
_STARTS_S, _MOST_S = 30.0, 600.0


@dataclass(slots=True)
class Replays:
    """Orders replays and follows how they stand. Those of an interrupted session go on."""

    system: System
    books: Books
    log: Log
    say: Say
    rate: float
    _ends: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.log.entries(ORDERED):
            self.books.ledger.replays[entry["id"]] = entry["at"]
            self._ends = {int(number): end for number, end in entry["ends"].items()}

    async def under_way(self) -> None:
        """Return when a replay is at work: the last one, or if it is over the next one has begun to arrive."""
        if await self._going():
            return
        last, until = await self._order(), time.monotonic() + _STARTS_S
        while last not in self.books.ledger.replayed and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            self.books.read_on()

    async def over(self) -> None:
        """Wait for the end of the last one. One that does not come to it is seen as a partition that is stuck."""
        until = time.monotonic() + _MOST_S
        while await self._going() and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            self.books.read_on()

    async def _going(self) -> bool:
        """Its order is passed when it has ended."""
        return bool(await asyncio.to_thread(lagging, self.system.settings.bootstrap_servers, [REPLAYER]))

    async def _order(self) -> str:
        at, ledger = now_ms(), self.books.ledger
        ends = await asyncio.to_thread(ends_of, self.system.settings.bootstrap_servers, topics.EVENTS)
        window = self._window(ends)
        order = Replay(
            f"rpl_{secrets.token_hex(11)}", None, Ordered.RUNNING, window, rate=self.rate, created_ms=at, updated_ms=at
        )
        self.log.write(ORDERED, at, id=order.id, ends=ends)
        ledger.replays[order.id], self._ends = at, ends
        await self._write(order)
        self.say(f"replay {len(ledger.replays)} of {sum(span.end - span.start for span in window)} events is ordered")
        return order.id

    def _window(self, ends: Mapping[int, int]) -> tuple[Span, ...]:
        return tuple(Span(number, self._ends.get(number, 0), end) for number, end in sorted(ends.items()))

    async def _write(self, order: Replay) -> None:
        codec = await Codec.open(self.system.settings)
        producer = Producer(producer_config(self.system.settings))
        producer.produce(topics.REPLAYS, codec.encode_replay(order), order.id)
        if await asyncio.to_thread(producer.flush, 60):
            raise TimeoutError("the replay could not be ordered")
        codec.close()
