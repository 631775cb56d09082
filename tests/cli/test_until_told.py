"""How commands that run until they are told to stop come to their end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = """
import asyncio, os, signal, sys
from pathlib import Path
from pipeline.cli._until_told import until_told

async def main():
    print("ready", file=sys.stderr, flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        for stream in (sys.stdout, sys.stderr):
            print("stopping", file=stream, flush=True)
        Path(sys.argv[1]).write_text("put away")

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
os.open(os.ttyname(0), os.O_RDWR)  # the leader of a session: this terminal is its own
sys.exit(until_told(main))
"""


@pytest.fixture
def terminal() -> tuple[int, int]:
    """Both ends of one: a person's, and the command's."""
    return pty.openpty()


def test_a_terminal_that_is_closed_is_an_end_like_any_other(terminal: tuple[int, int], tmp_path: Path) -> None:
    """Nobody is there to read what is still said; what has to be put away is put away, and the exit code is 0."""
    ours, its = terminal
    done = tmp_path / "done"
    command = [sys.executable, "-c", RUNS, str(done)]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
        os.close(its)
        said = b""
        while b"ready\r\n" not in said:
            said += os.read(ours, 100)
        os.close(ours)
        assert process.wait(30) == 0
    assert done.read_text() == "put away"
