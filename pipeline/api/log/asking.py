"""Asking the delivery log: in threads, and only once somebody does, so that its database is missed by nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from pipeline.errors import SettingsError, Unreachable
from pipeline.store.log import DeliveryLog

T = TypeVar("T")

DEADLINE_S = 10.0
"""How long an answer may take."""

_AT_ONCE = 4
_AGAIN_S = 1.0
"""After the database did not answer it is left alone for so long, and whoever asks is told so at once."""
_LATE = "The delivery log's database does not answer in time: try again"
_log = structlog.get_logger()


class AskedLog:
    """The delivery log for operations. `trouble` says why it cannot be asked, as far as that is known."""

    def __init__(self, open_: Callable[[], DeliveryLog], deadline_s: float = DEADLINE_S) -> None:
        self._open, self._deadline_s = open_, deadline_s
        self._threads = ThreadPoolExecutor(_AT_ONCE, "log")
        self._opening = threading.Lock()
        self._held: DeliveryLog | None = None
        self._not_before = 0.0
        self.trouble: str | None = None

    async def ask(self, question: Callable[[DeliveryLog], T]) -> T:
        """What the log answers. Raises `Unreachable` (503) with a sentence while it cannot."""
        answer = asyncio.get_running_loop().run_in_executor(self._threads, self._asked, question)
        try:
            return await asyncio.wait_for(answer, self._deadline_s)
        except TimeoutError as error:
            raise Unreachable(_LATE) from error

    def close(self) -> None:
        """Let go of the database; an answer that is still under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._held is not None:
            self._held.close()

    def _asked(self, question: Callable[[DeliveryLog], T]) -> T:
        held = self._held or self._opened()
        try:
            answer = question(held)
        except Unreachable as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        return answer

    def _opened(self) -> DeliveryLog:
        with self._opening:
            if self._held is not None:
                return self._held
            if self.trouble is not None and time.monotonic() < self._not_before:
                raise Unreachable(self.trouble)
            try:
                self._held = self._open()
            except (Unreachable, SettingsError) as error:
                self._failed(f"The delivery log cannot be opened: {error}")
                raise Unreachable(str(self.trouble)) from error
            return self._held

    def _failed(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("no delivery log", reason=trouble)
        self.trouble, self._not_before = trouble, time.monotonic() + _AGAIN_S
