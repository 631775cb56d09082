"""A real broker and registry for tests, which may be sync or async: they run on an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.embedded import EmbeddedCluster

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """The running cluster, as a test needs it."""

    bootstrap: str
    registry: str
    data_dir: Path
    _cluster: EmbeddedCluster
    _loop: asyncio.AbstractEventLoop

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of `kafka` and `registry`."""
        return self._cluster.pids

    def kill_broker(self) -> None:
        """End the broker by SIGKILL; it stays dead."""
        _run(self._loop, self._cluster.kill_broker())

    def start_broker(self) -> None:
        """Start it again on the same port, and wait until it serves."""
        _run(self._loop, self._cluster.start_broker())


@contextmanager
def live_cluster(data_dir: Path) -> Iterator[LiveCluster]:
    """Start broker and registry in `data_dir`; stop them at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded cluster", daemon=True)
    thread.start()
    try:
        cluster = EmbeddedCluster(data_dir)
        _run(loop, cluster.__aenter__())
        try:
            yield LiveCluster(cluster.bootstrap, cluster.registry, data_dir, cluster, loop)
        finally:
            _run(loop, cluster.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()
