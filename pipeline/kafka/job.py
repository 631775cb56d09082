"""One replay at work: its readers run beside each other, and what they have noted goes to `replay-progress`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from pipeline.errors import Unreachable
from pipeline.flow.replay import Progress, State
from pipeline.kafka.codec import Codec
from pipeline.kafka.publisher import Report
from pipeline.kafka.reading import LOOK_S, MOST_READERS, Reader, Run
from pipeline.kafka.topics import REPLAY_PROGRESS
from pipeline.ports import Outgoing, Work

_TELL_S, _AGAIN_S = 1.0, 1.0
_STUCK_S = 10.0
"""A reader that has not moved for longer is no sign of life; who looks for what is stuck has patience of its own."""
_LAST_S = 1.5
_NOT_YET = "as many replays are at work as one process can do: it begins when one of them has ended"
_log = structlog.get_logger()

Ready = Callable[[], Awaitable[str | None]]
"""What has to come first; None when all is there. Raises `Unreachable`."""


async def at_once() -> None:
    """Nothing has to."""


@dataclass(slots=True, eq=False)
class Job:
    """Runs one replay until it is over, or is to stop. `error` is what went wrong before, if anything did.

    `ready` comes before any deciding; `settled` when all has been written, before it is said to be over.
    """

    run: Run
    codec: Codec
    now_ms: Callable[[], int]
    ready: Ready
    error: str | None = None
    settled: Ready = at_once
    _waiting: str | None = None
    _tasks: dict[Reader, asyncio.Task[None]] = field(default_factory=dict)
    _told: Progress | None = None
    _report: asyncio.Future[Report] | None = None
    _told_s: float = float("-inf")

    async def __call__(self) -> bool:
        """Whether it is over, and that is durable. If not, its last progress is, as far as time allowed."""
        self._tell(self._progress())
        if await self._has_come(self._beginning):
            for shares, positions in self.run.course.together().items():
                self.run.add(shares, positions)
            await self._read()
        over = not self.run.course.together() and await self._has_come(self.settled)
        last = self._progress((State.FAILED if self._wrong() else State.DONE) if over else State.RUNNING)
        _log.info("replay", replay=last.id, state=last.state.value, events=last.events, deliveries=last.deliveries)
        return await self._told_last(last) and over

    @property
    def waiting(self) -> str | None:
        """Why nothing is written at present; None while any of its readers goes on."""
        readers = self.run.readers
        reasons = [reader.waiting for reader in readers if reader.waiting is not None]
        return reasons[0] if reasons and len(reasons) == len(readers) else self._waiting

    async def _beginning(self) -> str | None:
        return _NOT_YET if self.run.parts.readers >= MOST_READERS else await self.ready()

    async def _has_come(self, what: Ready) -> bool:
        """Wait for it, and say so; False if the replay is to stop."""
        while self.run.going:
            self._waiting = await self._lacking(what)
            if self._waiting is None:
                return True
            self._tell_in_time()
            await self._rest()
        return False

    async def _rest(self) -> None:
        until_s = time.monotonic() + _AGAIN_S
        while self.run.going and time.monotonic() < until_s:
            await asyncio.sleep(LOOK_S)
            self.run.work.goes_on()

    @staticmethod
    async def _lacking(what: Ready) -> str | None:
        try:
            return await what()
        except Unreachable as error:
            return str(error)

    async def _read(self) -> None:
        while self._begun():
            left = [task for task in self._tasks.values() if not task.done()]
            if left:
                await asyncio.wait(left, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            self._end()
            self._tell_in_time()

    def _begun(self) -> bool:
        """Let every reader begin that has not; whether there are any."""
        for reader in self.run.readers:
            if reader not in self._tasks:
                self.run.parts.readers += 1
                self._tasks[reader] = asyncio.create_task(reader())
        return bool(self._tasks)

    def _end(self) -> None:
        """Take leave of those that have ended; whatever one of them raises is our own fault."""
        for reader in [one for one, task in self._tasks.items() if task.done()]:
            self.run.readers.remove(reader)
            self.run.parts.readers -= 1
            self._tasks.pop(reader).result()
        if all(time.monotonic() - reader.moved_s < _STUCK_S for reader in self.run.readers):
            self.run.work.goes_on()

    def _progress(self, state: State = State.RUNNING) -> Progress:
        waiting = None if state is not State.RUNNING else self.waiting
        return self.run.course.progress(state, self.now_ms(), waiting, self._wrong())

    def _wrong(self) -> str | None:
        if self.run.gone:
            return f"{self.run.gone} records of the window were removed before they could be read"
        return self.error

    def _tell_in_time(self) -> None:
        reported = self._report is None or self._report.done()
        if reported and time.monotonic() - self._told_s > _TELL_S:
            self._tell(self._progress())

    def _tell(self, progress: Progress) -> None:
        """Write it, unless it says what the last one said; nothing of a partition that is or may be another's."""
        same = self._told is not None and replace(self._told, time_ms=progress.time_ms) == progress
        if same or self._is_anothers:
            return
        if self._report is not None and self._report.done():
            self._report.result()
        self._report = self.run.parts.publisher.publish(told_as(progress, self.codec))
        self._told, self._told_s = progress, time.monotonic()

    async def _told_last(self, progress: Progress) -> bool:
        """Whether it is durable."""
        self._tell(progress)
        if self._report is None or self._is_anothers:
            return False
        return await reported(self._report, self.run.work) and not self._is_anothers

    @property
    def _is_anothers(self) -> bool:
        return self.run.work.lost or self.run.work.doubtful


def told_as(progress: Progress, codec: Codec) -> Outgoing:
    """The record that tells it."""
    return Outgoing(REPLAY_PROGRESS, progress.id.encode(), codec.encode_replay_progress(progress))


async def reported(report: asyncio.Future[Report], work: Work) -> bool:
    """Whether a record of progress is durable; a partition that is given up does not wait for long."""
    until_s: float | None = None
    while not report.done():
        if not work.open:
            until_s = until_s or time.monotonic() + _LAST_S
            if time.monotonic() > until_s:
                return False
        await asyncio.wait({report}, timeout=LOOK_S)
    report.result()
    return not work.lost
