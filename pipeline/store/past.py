"""What a redrive has to know of what was: from Kafka, and from the delivery log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pipeline.flow.deadletter import Source
from pipeline.kafka.codec import Codec
from pipeline.ports import Record
from pipeline.store.log import DeliveryLog
from pipeline.store.targets import not_ours
from pipeline.workers.redrive import Had

T = TypeVar("T")
_MOST = 100_000
"""More webhooks than a tenant has."""


class Places(Protocol):
    """Reads records by where they lie (`pipeline.kafka.places.Places`)."""

    def read(self, topic: str, partition: int, offsets: Iterable[int]) -> Awaitable[dict[int, Record]]:
        """The records at these offsets; one that is not there any more is left out. Raises `Unreachable`."""


class Asked(Protocol):
    """The delivery log, asked in a thread."""

    def ask(self, question: Callable[[DeliveryLog], T]) -> Awaitable[T]:
        """What the log answers. Raises `Unreachable`."""


@dataclass(frozen=True, slots=True)
class FlowPast:
    """Implements `pipeline.workers.redrive.Past`."""

    places: Places
    codec: Codec
    log: Asked

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Know their schemas."""
        await self.codec.learn(not_ours(self.codec, values))

    async def record(self, source: Source) -> Record | None:
        """The record that lies there, its schema known."""
        found = (await self.places.read(source.topic, source.partition, [source.offset])).get(source.offset)
        await self.learn([found.value] if found is not None else ())
        return found

    async def deliveries(self, tenant: str, event: str) -> Sequence[Had]:
        """Every delivery of events of that id."""
        rows = await self.log.ask(lambda log: log.deliveries_of_event(tenant, event, _MOST))
        return [Had(row.id, row.webhook, row.event_partition, row.event_offset) for row in rows]
