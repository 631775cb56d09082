"""The replayer: takes the orders of replays, and keeps each that is to run at work.

The record of an order is passed when nothing is left to do for it: its replay is over, paused or cancelled, or a newer
record of the same order has come. Until then whoever gets the partition next reads it again, and goes on from what was
noted last. So there is no replay without somebody who answers for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.replay import OVER, Progress, Replay, State
from pipeline.kafka.codec import Codec
from pipeline.kafka.job import Job, reported, told_as
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.table import Table
from pipeline.kafka.topics import REPLAY_PROGRESS, REPLAYS
from pipeline.ports import Record, Work
from pipeline.workers.replaying import settled

_AGAIN_S = 0.5
_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Turn:
    """One record of an order, from its coming until nothing more is done for it."""

    job: Job | None = None
    superseded: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def supersede(self) -> None:
        """A newer record of the order has come."""
        self.superseded = True
        if self.job is not None:
            self.job.run.superseded = True


@dataclass(slots=True)
class Jobs:
    """What a stage over `replays` calls with each record (`pipeline.kafka.processing.Doing`).

    `table` has `replays` and `replay-progress`; `job` makes the job of an order from where it is.
    """

    codec: Codec
    table: Table
    publisher: Publisher
    learn: Callable[[Sequence[bytes | None]], Awaitable[None]]
    now_ms: Callable[[], int]
    job: Callable[[Replay, Progress | None, Work], Job]
    turns: dict[str, _Turn] = field(default_factory=dict)

    async def __call__(self, record: Record, work: Work) -> None:
        """Return when nothing more is to be done for the record here; its offset is released unless it is left."""
        work.answered()  # it is in nobody's way
        key = (record.key or b"").decode(errors="backslashreplace")
        before, turn = self.turns.get(key), _Turn()
        self.turns[key] = turn
        try:
            if before is not None:
                before.supersede()
                await before.ended.wait()
            if await self._done_with(key, record, work, turn):
                work.release()
        finally:
            turn.ended.set()
            if self.turns.get(key) is turn:
                del self.turns[key]

    @property
    def running(self) -> int:
        """How many replays are at work here."""
        return sum(turn.job is not None for turn in self.turns.values())

    async def _done_with(self, key: str, record: Record, work: Work, turn: _Turn) -> bool:
        """Whether nothing is left to do; if not, the partition has gone.

        One that was closed for a moment and is open again before its job has ended gives its records to nobody else.
        """
        while not (settled := await self._settled(key, record, work, turn)):
            if not work.open:
                break
            await asyncio.sleep(_AGAIN_S)
        return settled

    async def _settled(self, key: str, record: Record, work: Work, turn: _Turn) -> bool:
        """Whether nothing is left to do for the record."""
        if not await self._caught_up(work):
            return False
        held = self.table.get(REPLAY_PROGRESS, key)
        if record.value is None or self.table.get(REPLAYS, key) != record.value:
            return True
        await self.learn([record.value, held])
        try:
            order = self.codec.decode_replay(record.value)
            progress = None if held is None else self.codec.decode_replay_progress(held)
        except Undecodable as error:
            _log.error("an order of a replay, or its progress, cannot be read", replay=key, reason=str(error))
            return await self._kept(Progress(key, State.FAILED, (), error=f"it cannot be read: {error}"), work)
        if (state := settled(order, progress)) is None:
            return await self._run(order, progress, work, turn)
        if progress is not None and progress.state is state:
            return True
        return await self._kept(replace(progress or Progress(key, state, ()), state=state, waiting=None), work)

    async def _caught_up(self, work: Work) -> bool:
        """See to it that the views are as new as what was written before; False if the partition goes meanwhile."""
        while work.open:
            try:
                await self.table.caught_up(await self.table.ends())
            except Unreachable as error:
                _log.warning("waiting", reason=str(error))
                await asyncio.sleep(_AGAIN_S)
                work.goes_on()
            else:
                return True
        return False

    async def _run(self, order: Replay, progress: Progress | None, work: Work, turn: _Turn) -> bool:
        if turn.superseded:
            return True
        turn.job = self.job(order, progress, work)
        over = await turn.job()
        return over or turn.superseded

    async def _kept(self, progress: Progress, work: Work) -> bool:
        """Whether it is durable that the replay stands so."""
        now_ms = self.now_ms()
        told = replace(progress, time_ms=now_ms, ended_ms=now_ms if progress.state in OVER else None)
        if work.lost or work.doubtful:
            return False
        return await reported(self.publisher.publish(told_as(told, self.codec)), work)
