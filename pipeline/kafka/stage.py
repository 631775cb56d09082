"""A stage of the flow: Faust runs its agent, librdkafka moves its records.

A stage is a `faust.App` that starts none of Faust's own Kafka clients and no web server. A feed polls a consumer in a
thread and puts each batch on a bounded channel of the app; the agent over that channel hands the batch to `process`.
The feed owns the commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.types import StreamT

from pipeline.kafka.feed import Batch, Feed, Source
from pipeline.settings import Settings

_CHANNEL = 4
"""Batches between the poller and the agent."""

Fail = Callable[[BaseException], None]
Process = Callable[[Batch], Awaitable[None]]


class _Boot(BootStrategy):
    """Agents only."""

    enable_kafka = False
    enable_web = False


class _App(faust.App):
    """A Faust app without Faust's Kafka clients."""

    BootStrategy = _Boot

    def close_consumer(self) -> None:
        """Faust makes a consumer for its streams, with an event loop for a thread of its own, and starts neither."""
        consumer: Any = self.consumer
        consumer._thread.thread_loop.close()  # noqa: SLF001 - nothing public closes what was never started


class Stage:
    """One role's app, agent and feed.

    `processing` makes, from a way to report a fault of ours, what takes each batch in turn and says of every record
    when it starts and when it is finished (`Progress`); it holds the stage back by not returning. Whatever it raises
    ends the process without a commit: `failed` gets the exception.
    """

    def __init__(self, settings: Settings, source: Source, processing: Callable[[Fail], Process]) -> None:
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._process = processing(self.fail)
        self._app = _App(source.group, broker="kafka://", autodiscover=False, datadir=str(settings.data_dir / "faust"))
        self._channel = self._app.channel(maxsize=_CHANNEL)
        self._app.agent(self._channel, name=source.group)(self._agent)
        self.feed = Feed(settings, source, self._put, self.fail)

    async def _put(self, batch: Batch) -> None:
        await self._channel.put(cast("Any", batch))  # Faust's hint says Event; a channel takes any value

    async def _agent(self, batches: StreamT[Batch]) -> None:
        async for batch in batches:
            try:
                await self._process(batch)
            except Exception as error:  # Faust would log it and go on with the next batch
                self.fail(error)
                raise

    def fail(self, error: BaseException) -> None:
        """Something that nobody expected: nothing more is started or committed, and `failed` is done."""
        self.feed.abandon()
        if not self.failed.done():
            self.failed.set_result(error)

    async def start(self) -> None:
        """The agent first, then what feeds it."""
        await self._app.start()
        self._app.flow_control.resume()
        self.feed.start()

    async def stop(self, grace_s: float) -> bool:
        """Drain, commit and leave; False if the grace has cut something."""
        ended = await self.feed.stop(grace_s)
        await self._app.stop()
        self._app.close_consumer()
        return ended
