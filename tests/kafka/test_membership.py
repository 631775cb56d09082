from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.kafka.membership import slot
from pipeline.settings import Settings

_HOLD = """
import sys, pathlib
from pipeline.kafka.membership import slot
from pipeline.settings import Settings
with slot(Settings(instance_id="host", data_dir=pathlib.Path(sys.argv[1])), "sender") as instance:
    print(instance, flush=True)
    sys.stdin.read()
"""


def place(folder: Path) -> Settings:
    return Settings(instance_id="host", data_dir=folder)


def test_each_process_of_a_role_has_its_slot(tmp_path: Path) -> None:
    """The instance id is role, host and the first free slot; roles do not share slots."""
    settings = place(tmp_path)
    with slot(settings, "sender") as first, slot(settings, "sender") as second, slot(settings, "router") as other:
        assert (first, second, other) == ("sender-host-0", "sender-host-1", "router-host-0")


def test_a_slot_that_is_given_back_is_taken_again(tmp_path: Path) -> None:
    """Whoever comes next finds the lowest slot that is free."""
    settings = place(tmp_path)
    with slot(settings, "sender") as first:
        pass
    with slot(settings, "sender") as again, slot(settings, "sender") as second:
        assert (again, second) == (first, "sender-host-1")


def test_a_dead_process_gives_its_slot_back(tmp_path: Path) -> None:
    """The slot of a process that was killed is free at once, so that it comes back under its own name."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "sender-host-0"
        with slot(place(tmp_path), "sender") as meanwhile:
            assert meanwhile == "sender-host-1"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(10)
        with slot(place(tmp_path), "sender") as after:
            assert after == "sender-host-0"
