"""The feed of a stage: a thread polls a consumer, raw batches go to the event loop, the tracker's floors are committed.

Order of effects when a partition is revoked, all inside librdkafka's callback, so that the next owner starts after
it: (1) nothing more of it is started, (2) what is in flight gets 5 seconds, (3) what still is, is given up, (4) the
floor is committed, (5) the partition is let go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from pipeline.faults import Faults
from pipeline.kafka.controls import progress_of
from pipeline.kafka.intake import Batch, Intake
from pipeline.kafka.orphans import Orphans
from pipeline.kafka.poller import Poller
from pipeline.kafka.pulse import Pulse
from pipeline.kafka.source import SESSION_MS, Source
from pipeline.kafka.tracker import Partition, Tracker
from pipeline.settings import Settings

__all__ = ["SESSION_MS", "Batch", "Feed", "Source"]

GIVE_UP_S = 5.0
_COMMIT_S = 1.0
_TICKS = 20
"""Ticks of the event loop in a session."""
_log = structlog.get_logger()


class Feed:
    """Feeds one stage. This half lives in the event loop; the poller's thread has the consumer."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        put: Callable[[Batch], Awaitable[Any]],
        fail: Callable[[BaseException], None],
    ) -> None:
        session_s = source.session_ms / 1000
        self.tracker = Tracker(fresh=progress_of(Faults.of(settings)), pulse=Pulse(session_s / 2))
        self.intake = Intake(self.tracker, put, source.share)
        self.joined = False
        self._source, self._fail, self._tick_s = source, fail, session_s / _TICKS
        self._given_up, self._doubts = False, 0
        self._beside: list[asyncio.Task[None]] = []
        self._poller, self._orphans = Poller(settings, source, self), Orphans(settings, source)

    def start(self) -> None:
        """Join the group and begin to poll."""
        orphans = self._orphans.run(lambda: self._poller.member, self._rejoin)
        works = (self._tick(), self._commit_regularly(), self.intake.run(), orphans)
        self._beside = [self._kept(work) for work in works]
        self._poller.thread.start()

    async def stop(self, grace_s: float) -> bool:
        """Start nothing more, give what is in flight `grace_s`, commit, leave. False if something was cut."""
        partitions = list(self.tracker.partitions)
        self.tracker.close(partitions)
        self._poller.leave.set()
        ended = await self._ended(partitions, grace_s)
        self._given_up = True
        for work in self._beside:
            work.cancel()
        await asyncio.to_thread(self._poller.thread.join)
        return ended

    def abandon(self) -> None:
        """The process is about to end for a fault: commit nothing any more, start nothing any more."""
        self._poller.abandoned = True
        self.tracker.lose()

    @property
    def troubles(self) -> list[str]:
        """Why nothing may be coming at present, one sentence each."""
        doubt = ["this process stood still: Kafka has not confirmed its membership yet"]
        return self._poller.troubles + (doubt if self._poller.doubt is not None else [])

    @property
    def turned(self) -> float:
        """When the poller's thread began its last turn (seconds of `pulse.now`)."""
        return self._poller.turned

    def fail(self, error: BaseException) -> None:
        """The process must end."""
        self._fail(error)

    async def take(self, partitions: list[Partition]) -> None:
        """These have been assigned."""
        self.joined = True
        for partition in partitions:
            self.intake.take(partition)

    async def close(self, partitions: list[Partition]) -> None:
        """These are being revoked: returns when nothing of them is in flight, or it has waited long enough."""
        self.tracker.close(partitions)
        if not self._given_up:
            await self._ended(partitions, GIVE_UP_S)

    async def let_go(self, partitions: list[Partition], *, lost: bool) -> None:
        """These are gone."""
        self.joined &= not lost
        for partition in partitions:
            self.tracker.let_go(partition)
            self._poller.to_commit.pop(partition, None)

    async def due(self) -> dict[Partition, int]:
        """What is to be committed."""
        return self.tracker.due()

    async def in_flight(self) -> int:
        """How many records the feed waits for before it leaves."""
        return 0 if self._given_up else self.tracker.in_flight(list(self.tracker.partitions))

    async def in_doubt(self) -> dict[Partition, int | None]:
        """The floors of the partitions that nothing of is started at present."""
        return {name: progress.floor for name, progress in self.tracker.partitions.items() if progress.closed}

    async def reopen(self, doubt: int) -> dict[Partition, int]:
        """Start again what that doubt had closed; where the partitions are to be read again from."""
        if doubt != self._doubts or self._poller.abandoned or self._poller.leave.is_set():
            return {}
        self._poller.doubt = None
        again = self.tracker.reopen()
        _log.warning("the membership has lasted", read_again=list(again.items()))
        return again

    def _rejoin(self) -> None:
        self._poller.rejoin = True

    def _kept(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that never ends; if it does, the process must."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda done: None if done.cancelled() else self._fail(_reason(done)))
        return task

    async def _tick(self) -> None:
        while True:
            if not self.tracker.pulse.beat():
                _log.warning("this process stood still: nothing starts until Kafka has confirmed its membership")
                self._doubts += 1
                self._poller.doubt = self._doubts
                self.tracker.close(list(self.tracker.partitions))
            self.intake.weigh()
            await asyncio.sleep(self._tick_s)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            self._poller.to_commit = self.tracker.due()

    async def _ended(self, partitions: list[Partition], timeout_s: float) -> bool:
        """Whether all that was in flight has ended in time; what has not is given up."""
        if not (ended := await self._idle(partitions, timeout_s)) and self._source.give_up is not None:
            await self._source.give_up(partitions)
        return ended

    async def _idle(self, partitions: list[Partition], timeout_s: float) -> bool:
        """Wait until nothing of these is in flight; False when time is up."""
        until = time.monotonic() + timeout_s
        while self.tracker.in_flight(partitions) and time.monotonic() < until:  # noqa: ASYNC110 - an event a record costs more
            await asyncio.sleep(0.01)
        return not self.tracker.in_flight(partitions)


def _reason(done: asyncio.Task[None]) -> BaseException:
    return done.exception() or RuntimeError("what never ends has ended")
