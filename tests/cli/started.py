"""`pipeline` as a real process: what it says, line by line, and how it ends."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.processes import end


@dataclass(slots=True)
class Started:
    """The running command. `out` and `err` hold the lines of its output that have been waited for."""

    process: subprocess.Popen[str]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _lines: dict[str, queue.SimpleQueue[str]] = field(default_factory=dict)

    def until(self, stream: str, wanted: Callable[[str], bool], within: float = 90) -> str:
        """The next line of `out` or `err` that is wanted. Fails when none comes in time, or the stream ends first."""
        said: list[str] = getattr(self, stream)
        while True:
            try:
                line = self._lines[stream].get(timeout=within)
            except queue.Empty:
                raise AssertionError(f"{stream} said, within {within:g} s, only {said}") from None
            assert line, f"{stream} has ended after {said}; err: {self.rest('err')}"
            said.append(line.rstrip("\n"))
            if wanted(said[-1]):
                return said[-1]

    def rest(self, stream: str) -> list[str]:
        """All lines, when the process has ended."""
        said: list[str] = getattr(self, stream)
        while line := self._lines[stream].get(timeout=30):
            said.append(line.rstrip("\n"))
        return said

    def family(self) -> list[psutil.Process]:
        """Its child processes, all generations."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """Its exit code after this signal; no child may be left."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(within)
        assert end(family, within=0), "children outlived their parent"
        return code


@contextmanager
def started(*arguments: str, **variables: str) -> Iterator[Started]:
    """Start `pipeline` with these arguments, and none of our own settings in its environment."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PIPELINE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, **variables},
        text=True,
    )
    running = Started(process)
    assert process.stdout
    assert process.stderr
    readers = [_reader(running, name, pipe) for name, pipe in (("out", process.stdout), ("err", process.stderr))]
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()


def fields(ready: str) -> dict[str, str]:
    """The fields of the `ready` line."""
    word, *pairs = ready.split(" ")
    assert word == "ready"
    return dict(pair.split("=", 1) for pair in pairs)


def mode(path: Path) -> int:
    """A file's permissions."""
    return path.stat().st_mode & 0o777


def _reader(running: Started, name: str, pipe: IO[str]) -> threading.Thread:
    lines = running._lines.setdefault(name, queue.SimpleQueue())

    def read() -> None:
        for line in pipe:
            lines.put(line)
        lines.put("")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
