"""A stage whose work a test does by hand, or in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.stage import Fail, Process, Stage
from pipeline.kafka.tracker import Progress
from pipeline.ports import Record
from pipeline.settings import Settings
from tests.kafka.live import committed


@dataclass
class Hands:
    """A stage's work that the test does by hand: what has been started is held until the test finishes it."""

    held: dict[tuple[int, int], Progress] = field(default_factory=dict)
    seen: list[Record] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: bool = False

    def processing(self, _fail: Fail) -> Process:
        """What a stage is made with."""
        self.gate.set()
        return self.take

    async def take(self, batch: Batch) -> None:
        """Start all of a batch."""
        await self.gate.wait()
        for record, progress in batch:
            if progress.start(record.offset):
                self.seen.append(record)
                self.held[record.partition, record.offset] = progress
                if self.at_once:
                    self.finish(record.offset, partition=record.partition)

    def finish(self, *offsets: int, partition: int = 0) -> None:
        """All that these records caused is durable."""
        for offset in offsets:
            self.held.pop((partition, offset)).finish(offset)

    def finish_all(self) -> None:
        """The same of all that are held."""
        for partition, offset in list(self.held):
            self.finish(offset, partition=partition)

    @property
    def places(self) -> list[tuple[int, int]]:
        """What has been started, in order."""
        return [(record.partition, record.offset) for record in self.seen]


@asynccontextmanager
async def running(
    settings: Settings,
    group: str,
    topic: str,
    work: Callable[[Fail], Process],
    instance: str = "one",
    **more: Any,
) -> AsyncIterator[Stage]:
    """A stage at work on a topic."""
    stage = Stage(settings, Source(group, instance, (topic,), **more), work)
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop(0)


async def until_committed(settings: Settings, group: str, topic: str, places: dict[int, int]) -> None:
    """Return when these, and no others, are the group's offsets."""
    found: dict[int, int] = {}
    for _ in range(400):
        found = await asyncio.to_thread(committed, settings, group, topic)
        if found == places:
            return
    raise AssertionError(f"{found} is committed, not {places}")


def numbered(count: int) -> list[tuple[None, bytes]]:
    """So many records to write."""
    return [(None, b"%d" % number) for number in range(count)]
