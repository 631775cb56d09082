"""The processes that stand for the world outside: each is asked over its standard streams, a line and a JSON line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Child:
    """A process of the bench. What it says first is `greeting`."""

    process: subprocess.Popen[str]
    greeting: dict[str, Any]

    @classmethod
    def spawn(cls, module: str, *args: object) -> Child:
        """Start `python -m MODULE ARGS` and wait until it speaks."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        child = cls(process, {})
        child.greeting = child._answer()
        return child

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command, return its answer."""
        assert self.process.stdin is not None  # noqa: S101 - it was started with a pipe
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@dataclass(slots=True)
class Receiver:
    """The receiver that is no bottleneck."""

    child: Child

    @classmethod
    def start(cls, delay_s: float = 0.0, *, everywhere: bool = False) -> Receiver:
        """Start one that takes `delay_s` for each request; `everywhere`: on all of 127.0.0.0/8."""
        return cls(Child.spawn("bench.receiver", delay_s, "everywhere" if everywhere else ""))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.child.greeting["port"])

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command, return its answer."""
        return self.child.ask(command)

    def stop(self) -> None:
        """End the process."""
        self.child.stop()

    async def received(self, wanted: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `wanted` requests have come."""
        until = time.monotonic() + timeout_s
        while (tally := self.ask("count"))["requests"] < wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"{tally['requests']} of {wanted} requests came within {timeout_s} s")
            await asyncio.sleep(0.05)
        return tally
