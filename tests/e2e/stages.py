"""The stages as real processes: `pipeline run ROLE` with nothing but settings in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded.addresses import claim
from pipeline.embedded.leash import Child
from tests.leashed import leashed, told_to_stop

_READY_S = 60.0
_STOP_S = 40.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Stage:
    """One running process and its health port."""

    role: str
    child: Child
    port: int

    def troubles(self) -> list[str]:
        """Why it is not ready; empty when it is. Fails when the process has ended."""
        code = self.child.code()
        assert code is None, f"{self.role} ended with {code}: {self.child.last_words(20)}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return list(json.load(answer)["reasons"])
        except urllib.error.HTTPError as error:
            with error:
                return list(json.load(error)["reasons"])
        except urllib.error.URLError as error:
            return [str(error)]


def call(arguments: list[str], variables: Mapping[str, str], folder: Path) -> str:
    """One command of the operator's, to its end; what it printed. It must exit 0."""
    done = subprocess.run(
        command(*arguments), env=bare(variables, folder), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


@contextmanager
def running(roles: tuple[str, ...], variables: Mapping[str, str], folder: Path) -> Iterator[dict[str, Stage]]:
    """Start the roles together, wait until all are ready; at the end they drain, and must do so without a fault."""
    with ExitStack() as stack:
        made = {role: stack.enter_context(started(role, variables, folder)) for role in roles}
        until = time.monotonic() + _READY_S
        for stage in made.values():
            while reasons := stage.troubles():
                assert time.monotonic() < until, f"{stage.role} is not ready: {reasons}"
                time.sleep(_LOOK_S)
        yield made


@contextmanager
def started(role: str, variables: Mapping[str, str], folder: Path, name: str = "") -> Iterator[Stage]:
    """Start a role and do not wait for it; at the end it drains, and must do so without a fault."""
    port = claim(0, role, "")
    run = command("run", role, "--health-port", str(port))
    with leashed(name or role, run, folder, bare(variables, folder)) as child:
        yield Stage(role, child, port)
        told_to_stop(child, _STOP_S)


def command(*arguments: str) -> list[str]:
    """The product's command line."""
    return [sys.executable, "-m", "pipeline", *arguments]


def bare(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """An environment with nothing in it but these settings."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
