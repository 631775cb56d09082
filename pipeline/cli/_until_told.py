"""Commands that run until they are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

INTERRUPTED = 130
_ENDINGS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: 0, signal.SIGHUP: 0}


def until_told(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `main`; Ctrl-C and SIGTERM cancel it, and what it has to put away is waited for.

    The exit code is main's own; 130 after Ctrl-C, 0 after SIGTERM, which is how a service is stopped, and after the end
    of its terminal. A second signal ends the process at once, and its child processes with it.
    """
    return asyncio.run(_until_told(main))


async def _until_told(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    told: list[signal.Signals] = []
    task = asyncio.create_task(main())

    def tell(number: signal.Signals) -> None:
        if told:
            os._exit(INTERRUPTED)
        told.append(number)
        if number is signal.SIGHUP:
            _leave_the_terminal()
        task.cancel()

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in _ENDINGS.keys() - ({signal.SIGHUP} if nohup else set()):
        asyncio.get_running_loop().add_signal_handler(number, tell, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
    return _ENDINGS[told[0]]


def _leave_the_terminal() -> None:
    """One that has been closed refuses every word; what is still said goes nowhere, and ends nothing half-way."""
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        try:
            os.write(number, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def told_to_stop() -> asyncio.Event:
    """Set when this process gets SIGTERM or Ctrl-C: for a main that drains by itself."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told
