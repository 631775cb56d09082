"""The flow's own records, as the delivery log's operations read and write them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import PipelineError, Undecodable
from pipeline.flow.deliver import Delivery
from pipeline.flow.event import Event
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import DELIVERIES, EVENTS
from pipeline.ports import Outgoing, Record, Subscribers
from pipeline.store.targets import not_ours

At = tuple[int, int]
"""Partition and offset."""


class Places(Protocol):
    """Reads records by where they lie (`pipeline.kafka.places.Places`)."""

    def read(self, topic: str, partition: int, offsets: Iterable[int]) -> Awaitable[dict[int, Record]]:
        """The records at these offsets; one that is not there any more is left out. Raises `Unreachable`."""


@dataclass(frozen=True, slots=True)
class Records:
    """`events` and `deliveries` by place, and the writing of deliveries.

    `publish` writes records; for each None when it is durable, or why that is not known. `subscribers` is who wants
    what now, as the router sees it.
    """

    places: Places
    codec: Codec
    subscribers: Subscribers
    publish: Callable[[Sequence[Outgoing]], Awaitable[list[PipelineError | None]]]

    async def read(self, topic: str, at: Iterable[At]) -> dict[At, Record]:
        """The records that are still there, their schemas known. Raises `Unreachable`."""
        offsets: dict[int, list[int]] = defaultdict(list)
        for partition, offset in at:
            offsets[partition].append(offset)
        read = await asyncio.gather(*(self.places.read(topic, *wanted) for wanted in offsets.items()))
        found = {(one.partition, one.offset): one for part in read for one in part.values()}
        await self.codec.learn(not_ours(self.codec, (record.value for record in found.values())))
        return found

    async def deliveries(self, at: Iterable[At]) -> dict[At, Delivery]:
        """The deliveries whose bodies are still there. Raises `Unreachable`."""
        found = await self.read(DELIVERIES, at)
        read = {place: self._delivery(record) for place, record in found.items()}
        return {place: delivery for place, delivery in read.items() if delivery is not None}

    async def event(self, at: At) -> tuple[Record, Event] | None:
        """The event with its record; None when it is not there any more. Raises `Unreachable`."""
        record = (await self.read(EVENTS, [at])).get(at)
        try:
            return None if record is None else (record, self.codec.event(record))
        except Undecodable:  # the router made a dead letter of it, or its schema is gone
            return None

    def _delivery(self, record: Record) -> Delivery | None:
        try:
            return self.codec.delivery(record.value)
        except Undecodable:
            return None
