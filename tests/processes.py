from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def end(processes: Iterable[psutil.Process], within: float = 10.0) -> bool:
    """Whether all of them end within so many seconds. A dead one that nobody has reaped yet has ended."""
    waiting = list(processes)
    until = time.monotonic() + within
    while (waiting := [process for process in waiting if _lives(process)]) and time.monotonic() < until:
        time.sleep(0.01)
    return not waiting


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
