from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.embedded import EmbeddedError, leash
from pipeline.embedded.datadir import DataDir
from tests.processes import end

HOLDER = """
import asyncio, sys, time
from pathlib import Path
from pipeline.embedded import leash
from pipeline.embedded.datadir import DataDir
held = DataDir(Path(sys.argv[1]))
asyncio.run(held.lock())
command = [sys.executable, "-c", "import time; time.sleep(600)"]
child = leash.start("child", command, Path(sys.argv[2]), holding=[held.handle])
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A second run on the same directory is told which process has it."""
    first, second = DataDir(tmp_path / "data"), DataDir(tmp_path / "data")
    await first.lock()
    with pytest.raises(EmbeddedError, match=rf"data is locked by pid {os.getpid()}: another run uses it.*--data-dir"):
        await second.lock()
    first.unlock()
    await second.lock()
    second.unlock()


async def test_what_a_killed_run_leaves_behind_is_waited_for(tmp_path: Path) -> None:
    """After a kill -9, the next run gets the directory, but only when the killed run's children have let go of it."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "data"), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:  # noqa: ASYNC220 - nothing else runs
        assert holder.stdout
        child = psutil.Process(int(holder.stdout.readline()))
        holder.kill()
    following = DataDir(tmp_path / "data")
    await following.lock()
    assert end([child], within=0)
    following.unlock()


async def test_a_child_keeps_the_directory_locked(tmp_path: Path) -> None:
    """A child that holds the lock keeps it when the run lets go."""
    held, other = DataDir(tmp_path), DataDir(tmp_path)
    await held.lock()
    child = leash.start(
        "child", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", holding=[held.handle]
    )
    held.unlock()
    with pytest.raises(EmbeddedError, match="is locked by"):
        await other.lock()
    await child.kill()
    await other.lock()
    other.unlock()


async def test_the_directory_is_its_owners(tmp_path: Path) -> None:
    """The directory holds keys and events: nobody else may look into it."""
    held = DataDir(tmp_path / "data")
    await held.lock()
    assert held.path.stat().st_mode & 0o777 == 0o700
    held.unlock()
