"""The role processes of one machine: started, kept, watched for readiness, drained."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded import leash
from pipeline.embedded._errors import EmbeddedError
from pipeline.embedded.addresses import http_status
from pipeline.embedded.keeper import PAUSES, SETTLED, Keeper

_LOOK = 0.05
"""Seconds between two looks at a process that is not ready yet."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process to run. `name` is role and slot, such as `sender-0`; its log is `<name>.log`."""

    name: str
    command: Sequence[str]
    health_port: int
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of this process."""


class Supervisor:
    """Keeps roles running until it is left; what happens to them is told to `on_event`, one sentence each."""

    def __init__(
        self,
        roles: Sequence[Role],
        logs: Path,
        *,
        on_event: Callable[[str], None],
        grace: float = 30.0,
        pauses: Sequence[float] = PAUSES,
        settled: float = SETTLED,
    ) -> None:
        self._roles = {role.name: role for role in roles}
        self._grace = grace
        self._keepers = {
            role.name: Keeper(role.name, partial(_launch, role, logs), on_event, pauses=pauses, settled=settled)
            for role in roles
        }

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the roles that run now, by name."""
        return {name: keeper.pid for name, keeper in self._keepers.items() if keeper.pid}

    @property
    def fenced(self) -> tuple[str, ...]:
        """The roles that ended for good because a newer process took their place."""
        return tuple(name for name, keeper in self._keepers.items() if keeper.fenced)

    async def __aenter__(self) -> Self:
        for keeper in self._keepers.values():
            keeper.start()
            keeper.keep()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - it names who is late
        """Wait until every role answers its `/readyz` with 200. `EmbeddedError` names those that do not in time."""
        until = time.monotonic() + timeout
        late = [name for name, ready in await self._gather_ready(until) if not ready]
        if late:
            logs = ", ".join(str(child.log) for name in late if (child := self._keepers[name].child))
            raise EmbeddedError(f"Not ready within {timeout:g} s: {', '.join(late)}. See {logs}")

    async def stop(self) -> None:
        """SIGTERM to all, then SIGKILL to those that still run after the grace."""
        await asyncio.gather(*(keeper.stop(self._grace) for keeper in self._keepers.values()))

    async def kill(self, name: str) -> None:
        """SIGKILL one role and leave it dead."""
        await self._keepers[name].kill()

    async def _gather_ready(self, until: float) -> list[tuple[str, bool]]:
        checks = (self._ready(name, until) for name in self._roles)
        return list(zip(self._roles, await asyncio.gather(*checks), strict=True))

    async def _ready(self, name: str, until: float) -> bool:
        while not self._keepers[name].fenced:
            if await http_status(self._roles[name].health_port, "/readyz") == HTTPStatus.OK:
                return True
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_LOOK)
        return False


def _launch(role: Role, logs: Path) -> leash.Child:
    return leash.start(role.name, role.command, logs / f"{role.name}.log", env={**os.environ, **role.env})
