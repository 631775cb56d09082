from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from pipeline.embedded._errors import EmbeddedError

_PATIENCE = 10.0
"""Seconds for which the children of a run that was killed may hold its lock; they are being killed too."""


class DataDir:
    """The directory of one run, locked for as long as it or one of its children lives.

    The children inherit the lock (`handle`), so that a run that was killed cannot be followed by another one while its
    broker still has the files open. The kernel lets go of the lock with the last holder, whatever ends it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = -1

    async def lock(self) -> None:
        """Take the lock. `EmbeddedError` when another run has it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            await self._take(time.monotonic() + _PATIENCE)
        except BaseException:
            self.unlock()
            raise
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"{os.getpid()}\n".encode(), 0)

    def unlock(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    async def _take(self, until: float) -> None:
        while True:
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self._holder()
                if _runs(holder) or time.monotonic() > until:
                    raise EmbeddedError(
                        f"{self.path} is locked by pid {holder}: another run uses it. Stop that one, or choose another "
                        "directory with --data-dir."
                    ) from None
                await asyncio.sleep(0.05)
            else:
                return

    def _holder(self) -> int:
        text = os.pread(self.handle, 32, 0).decode().strip()
        return int(text) if text.isdigit() else 0


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
