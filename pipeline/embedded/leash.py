"""Child processes that die with their parent, however it dies.

The child's standard input is a pipe that only the parent holds open. A waiting shell beside the child reads it: a line
means that the child has ended and been reaped, end-of-file means that the parent is gone, and then the shell kills the
child's process group with SIGKILL. The kernel closes the pipe even at a `kill -9`, and POSIX sh is all that it takes,
so Linux and macOS are one. The shell that we start *becomes* the child (`exec`), so pid, signals and exit code are its
own, and there is no moment at which the child runs unwatched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LEASH = """
exec 3<&0 </dev/null
( read -r ended <&3 || kill -s KILL -- -$$ ) >/dev/null 2>&1 &
exec "$@" 3<&-
"""
_LOOK = 0.05
"""Seconds between two looks at whether a child has ended: works in every event loop and in every thread."""
_LOG_LIMIT = 64 * 1024 * 1024
"""Bytes; a longer log is set aside as `NAME.log.1` when the process is next started."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process; its log holds its standard output and error."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id, also of its process group."""
        return self.process.pid

    def code(self) -> int | None:
        """The exit code, negative for a signal, once the child and the shell that watches it have ended.

        Until the shell is gone, it holds what the child held, such as the lock of a directory.
        """
        code = self.process.poll()
        return code if code is not None and self._unwatched() else None

    def _unwatched(self) -> bool:
        """Send the watching shell away; whether it has gone, that is, whether nobody reads what we write to it."""
        stdin = self.process.stdin
        if stdin is None or stdin.closed:
            return True
        try:
            os.write(stdin.fileno(), b"ended\n")
        except BrokenPipeError:
            stdin.close()
            return True
        return False

    async def ended(self) -> int:
        """Wait for the end; the exit code."""
        while (code := self.code()) is None:  # noqa: ASYNC110 - the kernel sets no Event
            await asyncio.sleep(_LOOK)
        return code

    async def stop(self, grace: float) -> int:
        """SIGTERM, then SIGKILL if it still runs after `grace` seconds; the exit code."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.ended(), grace)
        return await self.kill()

    async def kill(self) -> int:
        """SIGKILL, and wait for the end; the exit code."""
        self.signal(signal.SIGKILL)
        return await self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to the child alone; nothing happens when it has ended."""
        if self.code() is None:
            self.process.send_signal(number)

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for a message, without the frames of Java's stack traces."""
        try:
            text = self.log.read_bytes()[-32_768:].decode(errors="replace").splitlines()
        except FileNotFoundError:  # whoever holds the directory may have cleaned it up
            return ""
        return "\n".join([line for line in text if line.strip() and not line.startswith("\tat ")][-lines:])


def start(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    holding: Sequence[int] = (),
) -> Child:
    """Start `command` in a session of its own (a terminal's Ctrl-C does not reach it), leashed to this process.

    `holding`: file descriptors that stay open in the child, such as a locked file's. `env` replaces the environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the product's own commands
            ["/bin/sh", "-c", _LEASH, "leash", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=tuple(holding),
        )
    return Child(name, log, process)
