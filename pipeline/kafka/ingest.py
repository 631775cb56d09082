"""Events that come in over REST, on their way to `events`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError, Unreachable
from pipeline.flow.event import Event
from pipeline.kafka.codec import Codec
from pipeline.kafka.publisher import UNREPORTED_BYTES, Publisher
from pipeline.kafka.topics import EVENTS
from pipeline.ports import Outgoing

_BUSY = "Kafka is slower than what comes in: nothing is stored; send it again a little later"


@dataclass(frozen=True, slots=True)
class EventIngest:
    """Writes events. `tenant` and `type` are in the headers too: who looks for some need not decode the others."""

    codec: Codec
    publisher: Publisher

    @property
    def troubles(self) -> list[str]:
        """Why no event can be taken now."""
        return ["Kafka does not confirm what is written"] if self.publisher.silent else []

    async def publish(self, events: Sequence[Event]) -> list[PipelineError | None]:
        """Write them all; for each None when it is durable, or what came in between, which leaves it unknown.

        Where too much waits for the broker already, nothing is written: it would only wait in memory too.
        """
        return await written(self.publisher, [self._outgoing(event) for event in events])

    def _outgoing(self, event: Event) -> Outgoing:
        tenant = event.tenant.encode()
        headers = (("tenant", tenant), ("type", event.type.encode()))
        return Outgoing(EVENTS, tenant, self.codec.encode_event(event), headers)


async def written(publisher: Publisher, records: Sequence[Outgoing]) -> list[PipelineError | None]:
    """Write them all; for each None when it is durable, or what came in between, which leaves it unknown."""
    if publisher.unreported_bytes > UNREPORTED_BYTES:
        return [Unreachable(_BUSY) for _ in records]
    reports = [publisher.publish(record) for record in records]
    outcomes = await asyncio.gather(*reports, return_exceptions=True)
    return [_told(outcome) for outcome in outcomes]


def _told(outcome: object) -> PipelineError | None:
    if isinstance(outcome, BaseException) and not isinstance(outcome, PipelineError):
        raise outcome
    return outcome if isinstance(outcome, PipelineError) else None
