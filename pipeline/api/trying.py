"""Tests of a configuration while they run: each tries up to three times by itself, as a task of its own.

So a client that leaves in the middle changes nothing, and what is under way is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Generic, Literal, TypeVar

from pipeline.api.findings import is_final
from pipeline.api.problems import Refusal
from pipeline.flow.deliver import Outcome, OutgoingRequest, Verdict
from pipeline.flow.trials import TRIES
from pipeline.ports import Client

PER_TENANT, AT_ONCE = 2, 16
"""Tests that run at the same time: of one tenant, and in this process."""
PAUSES_S = (0.0, 2.0, 4.0)
"""How long to wait before each of the `TRIES`."""
BEAT_S = 1.0
"""So often it is told again what is being done, so that nobody on the way takes the silence for the end."""
BLOCKED_S = 1.0
"""What is blocked is told after so long at the soonest: how soon it is would tell what lies behind the guard."""

_ROOM_S = "10"
_BUSY = "Too many tests of a configuration are running: try again when one of them has ended."
Pause = Callable[[float], Awaitable[object]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doing:
    """What is done now, for so many seconds already: a pause before that try, or the try."""

    number: int
    what: Literal["waiting", "sending"]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tried:
    """A try that has ended. `started_ms` is milliseconds since the epoch."""

    number: int
    started_ms: int
    request: OutgoingRequest
    outcome: Outcome
    verdict: Verdict


Step = Doing | Tried


@dataclass(frozen=True, slots=True)
class Trial(Generic[T]):
    """What is tried: `make` gives the request of a try, stamped and signed for that time (milliseconds).

    `judge` says what its end means to the product; `end` makes the result of all tries.
    """

    tenant: str
    make: Callable[[int], OutgoingRequest]
    judge: Callable[[Outcome], Verdict]
    end: Callable[[Sequence[Tried]], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Running(Generic[T]):
    """A trial that runs, whoever waits for it."""

    task: asyncio.Task[T]
    _steps: asyncio.Queue[Step | None]

    async def result(self) -> T:
        """What its end has made of all tries. Who stops waiting does not stop it."""
        return await asyncio.shield(self.task)

    async def steps(self) -> AsyncIterator[Step]:
        """Each step when it comes, once, to the last; what is being done is told again every second."""
        step: Step | None = None
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    step = await self._steps.get()
                began = time.monotonic()
            except TimeoutError:
                if isinstance(step, Doing):
                    yield replace(step, seconds=time.monotonic() - began)
                continue
            if step is None:
                return
            yield step


class Trials:
    """Makes the tries through the guarded client. `pause` waits for so many seconds, `clock` is in milliseconds."""

    def __init__(self, client: Client, clock: Callable[[], int], pause: Pause = asyncio.sleep) -> None:
        self._client, self._clock, self._pause = client, clock, pause
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def aclose(self) -> None:
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, trial: Trial[T]) -> Running[T]:
        """Start it. Raises `Refusal` (429) while too many run."""
        if self._running[trial.tenant] >= PER_TENANT or len(self._tasks) >= AT_ONCE:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, headers={"Retry-After": _ROOM_S})
        self._running[trial.tenant] += 1
        steps: asyncio.Queue[Step | None] = asyncio.Queue()
        task = asyncio.create_task(self._run(trial, steps.put_nowait))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._ended(trial.tenant, task, steps))
        return Running(task, steps)

    def _ended(self, tenant: str, task: asyncio.Task[T], steps: asyncio.Queue[Step | None]) -> None:
        self._tasks.discard(task)
        self._running[tenant] -= 1
        self._running += Counter()  # without those that have none
        steps.put_nowait(None)

    async def _run(self, trial: Trial[T], told: Callable[[Step], None]) -> T:
        tried: list[Tried] = []
        for number, seconds in enumerate(PAUSES_S[:TRIES], 1):
            if seconds:
                told(Doing(number, "waiting"))
                await self._pause(seconds)
            told(Doing(number, "sending"))
            tried.append(await self._try(number, trial))
            told(tried[-1])
            if is_final(tried[-1].verdict):
                break
        return await trial.end(tried)

    async def _try(self, number: int, trial: Trial[T]) -> Tried:
        started_ms, since = self._clock(), time.monotonic()
        request = trial.make(started_ms)
        outcome = await self._client.send(request)
        verdict = trial.judge(outcome)
        if verdict is Verdict.BLOCKED:
            await self._pause(max(BLOCKED_S - (time.monotonic() - since), 0.0))
        return Tried(number, started_ms, request, outcome, verdict)
