from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.embedded import leash
from tests.processes import end

FOREVER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
PARENT = """
import sys, time
from pathlib import Path
from pipeline.embedded import leash
log = Path(sys.argv[1])
child = leash.start("child", [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], log)
while b"up" not in log.read_bytes():
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(600)
"""


async def until_it_speaks(child: leash.Child) -> None:
    while b"up" not in child.log.read_bytes():
        assert child.code() is None
        await asyncio.sleep(0.01)


async def test_a_childs_end_and_words_are_its_own(tmp_path: Path) -> None:
    """The exit code is the command's, and what it says, on both outputs, is in its log."""
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"
    child = leash.start("child", [sys.executable, "-c", code], tmp_path / "logs" / "child.log")
    assert await child.ended() == 7
    assert child.last_words() == "out\nerr"
    child.log.unlink()
    assert not child.last_words(), "a log that is gone says nothing"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    """A child ends when its parent does, even by kill -9, and so does the shell that watches it."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        everybody = [child, *child.children()]
        parent.send_signal(number)
    assert len(everybody) == 2
    assert end(everybody)


async def test_the_watching_shell_ends_with_the_child(tmp_path: Path) -> None:
    """Nothing of a child is left once its end was noticed."""
    child = leash.start("child", FOREVER, tmp_path / "log")
    await until_it_speaks(child)
    watchers = psutil.Process(child.pid).children()
    assert len(watchers) == 1
    assert await child.kill() == -signal.SIGKILL
    assert end(watchers)


async def test_stopping_asks_first(tmp_path: Path) -> None:
    """A child that follows SIGTERM is not killed."""
    child = leash.start("child", FOREVER, tmp_path / "log")
    await until_it_speaks(child)
    assert await child.stop(grace=30) == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After the grace, SIGKILL ends a child that will not stop."""
    child = leash.start("child", STUBBORN, tmp_path / "log")
    await until_it_speaks(child)
    assert await child.stop(grace=0.2) == -signal.SIGKILL


async def test_a_terminals_interrupt_does_not_reach_a_child(tmp_path: Path) -> None:
    """A child is in a session of its own, so Ctrl-C reaches only the one that drains and stops the others."""
    child = leash.start("child", FOREVER, tmp_path / "log")
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        await child.kill()


async def test_a_long_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log above the limit is kept once as `.1`, so that logs do not grow without end."""
    monkeypatch.setattr(leash, "_LOG_LIMIT", 3)
    log = tmp_path / "child.log"
    log.write_text("long")
    await leash.start("child", ["/bin/sh", "-c", "echo new"], log).ended()
    assert (log.read_text(), (tmp_path / "child.log.1").read_text()) == ("new\n", "long")
