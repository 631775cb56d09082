"""The stages as real processes: `pipeline run ROLE` with nothing but settings in the environment."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_READY_S = 60.0
_STOP_S = 40.0
_LOOK_S = 0.05


@dataclass(slots=True)
class Stage:
    """One running process, its health port and what it has said."""

    role: str
    process: subprocess.Popen[str]
    port: int
    said: list[str] = field(default_factory=list)

    def troubles(self) -> list[str]:
        """Why it is not ready; empty when it is. Fails when the process has ended."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return list(json.load(answer)["reasons"])
        except urllib.error.HTTPError as error:
            with error:
                return list(json.load(error)["reasons"])
        except urllib.error.URLError as error:
            self.process.wait(_STOP_S)
            raise AssertionError(f"{self.role} ended with {self.process.returncode}: {self.said[-20:]}") from error


def call(arguments: list[str], variables: Mapping[str, str], folder: Path) -> str:
    """One command of the operator's, to its end; what it printed. It must exit 0."""
    done = subprocess.run(
        _command(*arguments), env=_bare(variables, folder), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


@contextmanager
def running(roles: tuple[str, ...], variables: Mapping[str, str], folder: Path) -> Iterator[dict[str, Stage]]:
    """Start the roles together, wait until all are ready; at the end they drain, and must do so without a fault."""
    with ExitStack() as stack:
        started = {role: stack.enter_context(_started(role, variables, folder)) for role in roles}
        until = time.monotonic() + _READY_S
        for stage in started.values():
            while reasons := stage.troubles():
                assert time.monotonic() < until, f"{stage.role} is not ready: {reasons}"
                time.sleep(_LOOK_S)
        yield started


@contextmanager
def _started(role: str, variables: Mapping[str, str], folder: Path) -> Iterator[Stage]:
    process = subprocess.Popen(
        _command("run", role),
        env=_bare(variables, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    said: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines, said), daemon=True)
    reader.start()
    try:
        yield Stage(role, process, _port(role, lines), said)
        process.terminate()
        assert process.wait(_STOP_S) == 0, f"{role} ended with {process.returncode}: {said[-20:]}"
    finally:
        process.kill()
        process.wait()
        reader.join()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", *arguments]


def _bare(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str], said: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as talk:
        for line in talk:
            said.append(line.rstrip())
            lines.put(line)
    lines.put("")


def _port(role: str, lines: queue.SimpleQueue[str]) -> int:
    """The free port that it took for its health, as its first log line says."""
    seen = []
    while line := lines.get(timeout=_READY_S):
        seen.append(line)
        if found := re.search(r"health_port['\"]?\s*[=:]\s*(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", line)):
            return int(found[1])
    raise AssertionError(f"{role} ended before it listened: {''.join(seen)}")
