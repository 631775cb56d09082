"""A broker and a registry of one's own, as child processes on loopback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pipeline.embedded import artifacts
from pipeline.embedded._errors import EmbeddedError
from pipeline.embedded.addresses import HOST, claim
from pipeline.embedded.broker import Broker
from pipeline.embedded.datadir import DataDir
from pipeline.embedded.java import find_java
from pipeline.embedded.keeper import Keeper, how
from pipeline.embedded.registry import API, Registry
from pipeline.kafka.offsets import lower_offsets_beyond_end

T = TypeVar("T")
Progress = Callable[[str], None]

_GRACE = 20.0
"""Seconds that the broker and the registry have to close their files."""
_LOOK = 0.05
_LATEST = 300.0
"""Seconds after which a start is given up. Kafka reads its logs again after a kill, which may take a while."""


def _silent(_line: str) -> None:
    """Where progress goes when nobody asked for it."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is known once a run has its directory, its ports and its programs."""

    broker: Broker
    registry: Registry


class EmbeddedCluster:
    """Kafka and Apicurio Registry for as long as the `async with` lasts; what they hold stays in `data_dir`.

    Ports of 0 become any free ones. `on_progress` hears one sentence for each step that takes time, and when one of the
    two ends by itself and is started again. Raises `EmbeddedError` when something is missing: the network at the first
    start, Java, a port, or the directory because another run has it.
    """

    def __init__(
        self, data_dir: Path, kafka_port: int = 0, registry_port: int = 0, on_progress: Progress = _silent
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.warnings: tuple[str, ...] = ()
        self._dir = DataDir(self.data_dir)
        self._ports = (kafka_port, registry_port)
        self._progress = on_progress
        self._parts: _Parts | None = None
        self._keepers: dict[str, Keeper] = {}

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT` of the broker."""
        return f"{HOST}:{self._known().broker.port}"

    @property
    def registry(self) -> str:
        """The registry's URL, of its Confluent API."""
        return f"http://{HOST}:{self._known().registry.port}{API}"

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of those that run now: `kafka`, `registry`."""
        return {name: keeper.pid for name, keeper in self._keepers.items() if keeper.pid}

    async def __aenter__(self) -> Self:
        try:
            await self._dir.lock()
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def kill_broker(self) -> None:
        """End the broker by SIGKILL and leave it dead."""
        await self._keepers["kafka"].kill()

    async def start_broker(self) -> None:
        """Start the broker again, on the same port, and wait until it serves."""
        await self._run("kafka", self._known().broker.ready)

    async def _start(self) -> None:
        parts = self._parts = await self._prepare()
        self._keepers = {
            "kafka": Keeper("kafka", parts.broker.launch, self._progress),
            "registry": Keeper("registry", parts.registry.launch, self._progress),
        }
        self._progress("starting Kafka and the registry")
        await _both(self._start_kafka(parts.broker), self._run("registry", parts.registry.ready))

    async def _prepare(self) -> _Parts:
        kafka_port = claim(self._ports[0], "Kafka", "--kafka-port")
        registry_port = claim(self._ports[1], "the registry", "--registry-port")
        programs = await _in_daemon_thread(partial(artifacts.programs, self._from_thread()))
        java = await asyncio.to_thread(find_java)
        logs, lock = self.data_dir / "logs", self._dir.handle
        folder, log, classpath = self.data_dir / "kafka", logs / "kafka.log", programs.kafka_classpath
        broker = Broker(java, classpath, folder, log, kafka_port, claim(0, "Kafka's controller", ""), lock)
        folder, log = self.data_dir / "registry", logs / "registry.log"
        return _Parts(broker, Registry(java, programs.registry_jar, folder, log, registry_port, lock))

    async def _start_kafka(self, broker: Broker) -> None:
        broker.write_settings()
        formatted = broker.formatted
        if not formatted:
            await broker.format()
        await self._run("kafka", broker.ready)
        if formatted:
            self.warnings = tuple(await asyncio.to_thread(lower_offsets_beyond_end, self.bootstrap))
            for warning in self.warnings:
                self._progress(warning)

    async def _run(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Start a process, wait until it serves, and keep it from then on."""
        keeper = self._keepers[name]
        child = keeper.start()
        since = told = time.monotonic()
        while not await ready():
            code = child.code()
            if code is not None or time.monotonic() - since > _LATEST:
                ending = "did not answer in time" if code is None else f"ended at once ({how(code)})"
                raise EmbeddedError(f"{name} {ending}; the last lines of {child.log}:\n{child.last_words()}")
            if time.monotonic() - told > 5:  # noqa: PLR2004 - seconds
                told = time.monotonic()
                self._progress(f"{name} is still starting, {told - since:.0f} s so far")
            await asyncio.sleep(_LOOK)
        keeper.keep()

    async def _stop(self) -> None:
        await asyncio.gather(*(keeper.stop(_GRACE) for keeper in self._keepers.values()))
        self._dir.unlock()

    def _from_thread(self) -> Progress:
        """Progress as another thread may call it."""
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(self._progress, line)

        return tell

    def _known(self) -> _Parts:
        if self._parts is None:
            raise EmbeddedError("The embedded broker and registry are not running.")
        return self._parts


async def _both(*starts: Coroutine[None, None, None]) -> None:
    """Run them at once; when one fails, the other does not outlive it."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _in_daemon_thread(call: Callable[[], T]) -> T:
    """Run a blocking call that Ctrl-C need not wait for: the interpreter does not join a daemon thread at its end."""
    loop = asyncio.get_running_loop()
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - handed over whole to the one who waits
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome, loop=loop)
