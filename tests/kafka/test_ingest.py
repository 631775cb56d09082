from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.errors import Unreachable
from pipeline.flow.event import Event
from pipeline.kafka.ingest import EventIngest
from pipeline.kafka.publisher import UNREPORTED_BYTES, Publisher
from tests.workers.parts import CODEC, NOW_MS

EVENT = Event("e", "acme", "a.b", NOW_MS, "{}")


@dataclass
class Full:
    """A publisher whose broker has too much to report."""

    unreported_bytes: int = UNREPORTED_BYTES + 1
    written: list[Any] = field(default_factory=list)

    def publish(self, record: Any) -> None:
        """Kept, to be seen."""
        self.written.append(record)


async def test_more_than_kafka_takes_is_refused() -> None:
    """While too much waits for the broker nothing more is taken into memory: the client is to come again."""
    publisher = Full()
    answers = await EventIngest(CODEC, cast("Publisher", publisher)).publish([EVENT, EVENT])
    assert [type(answer) for answer in answers] == [Unreachable, Unreachable]
    assert "nothing is stored" in str(answers[0])
    assert publisher.written == []
