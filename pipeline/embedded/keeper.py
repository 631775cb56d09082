from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat

from pipeline.embedded.leash import Child
from pipeline.errors import Fenced

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a process is started again, by how often in a row it has ended."""
SETTLED = 60.0
"""Seconds of life after which an end counts as the first again."""


class Keeper:
    """One child process that is started again when it ends, unless it says that another has taken its place."""

    def __init__(
        self,
        name: str,
        launch: Callable[[], Child],
        on_event: Callable[[str], None],
        *,
        pauses: Sequence[float] = PAUSES,
        settled: float = SETTLED,
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.fenced = False
        self._launch = launch
        self._on_event = on_event
        self._pauses = pauses
        self._settled = settled
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.child.pid if self.child and self.child.code() is None else None

    def start(self) -> Child:
        """Start the process; `keep` then keeps it."""
        self.child = self._launch()
        return self.child

    def keep(self) -> None:
        """From now on, start the process again when it ends."""
        self._watch = asyncio.create_task(self._restart_forever(), name=f"keep {self.name}")

    async def stop(self, grace: float) -> None:
        """End the process for good: SIGTERM, and SIGKILL if it still runs after `grace` seconds."""
        await self._let_go()
        if self.child:
            await self.child.stop(grace)

    async def kill(self) -> None:
        """End the process for good, by SIGKILL."""
        await self._let_go()
        if self.child:
            await self.child.kill()

    async def _let_go(self) -> None:
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None

    async def _restart_forever(self) -> None:
        failures = 0
        while self.child:
            since = time.monotonic()
            code = await self.child.ended()
            if code == Fenced.exit_code:
                self.fenced = True
                self._on_event(f"{self.name} ended: a newer process has taken its place. It is not started again.")
                return
            failures = 0 if time.monotonic() - since >= self._settled else failures
            pause = self._pauses[min(failures, len(self._pauses) - 1)]
            failures += 1
            self._on_event(f"{self.name} ended ({how(code)}); starting it again in {pause:g} s. Log: {self.child.log}")
            await asyncio.sleep(pause)
            await self._start_again()

    async def _start_again(self) -> None:
        """Start it, as often as it takes: a machine that has no process or no disk to give may have one later."""
        for pause in chain(self._pauses, repeat(self._pauses[-1])):
            try:
                self.start()
            except OSError as error:
                self._on_event(f"{self.name} cannot be started ({error}); trying again in {pause:g} s.")
                await asyncio.sleep(pause)
            else:
                return


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
