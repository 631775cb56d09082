"""The API's process: its parts wired to Kafka, behind uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, NoReturn

import structlog
import uvicorn
from prometheus_client import CollectorRegistry

from pipeline.api import scanning
from pipeline.api.app import create_app
from pipeline.api.deps import Deps
from pipeline.api.events import MAX_BATCH
from pipeline.api.log.asking import AskedLog
from pipeline.api.log.forgetting import forgetting
from pipeline.api.log.issued import Issued
from pipeline.api.log.records import Records
from pipeline.api.log.statuses import Statuses
from pipeline.api.planning import Plans
from pipeline.api.quota import Quota
from pipeline.api.tenants import ensure_operations
from pipeline.api.trying import Trials
from pipeline.errors import SettingsError, Unreachable
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.cancels import Cancels
from pipeline.kafka.codec import Codec
from pipeline.kafka.control import ControlWriter
from pipeline.kafka.ingest import EventIngest, written
from pipeline.kafka.places import Places
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.table import Table
from pipeline.kafka.topics import CONTROL_TOPICS, ENDPOINT_STATE, REPLAY_PROGRESS
from pipeline.settings import Settings
from pipeline.store.directory import Directory
from pipeline.store.keys import KeyRing
from pipeline.store.log import log_url, open_log
from pipeline.store.replays import Replays
from pipeline.store.sealing import Sealing
from pipeline.store.secrets import Vault

ACK_S = 10.0
"""How long an event may wait for its broker's acknowledgement."""

_RETRY_S = 1.0
_log = structlog.get_logger()

GRACE_S = 20
"""How long requests may take to end when the process is told to stop."""


class Wired(NamedTuple):
    """The parts, and what ends the process when it is done."""

    deps: Deps
    ended: asyncio.Future[BaseException]


class History(NamedTuple):
    """What tells of deliveries, and sends them again."""

    log: AskedLog
    records: Records
    cancels: Cancels


class Serving(NamedTuple):
    """Where requests are answered, and by which parts."""

    url: str
    deps: Deps


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: Callable[[Serving], None],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
) -> None:
    """Serve until `stop` is set; `on_ready` hears where, once requests are answered. Port 0 is any free one.

    While Kafka or the registry is down it waits, and says so in the log. Raises `SettingsError`, and `Fenced` when a
    newer API process takes this one's place.
    """
    settings.require("admin_key", "encryption_keys")
    with _listening(host, port) as listener:
        async with AsyncExitStack() as stack:
            parts = await _patiently(stack, settings, stop)
            if parts is None:
                return
            server = _Server(_config(parts.deps), lambda: on_ready(Serving(_url(host, listener), parts.deps)))
            serving = asyncio.create_task(server.serve([listener]))
            await _until(stop, serving, parts.ended)
            server.should_exit = True
            await serving
            if parts.ended.done():
                raise parts.ended.result()


async def _patiently(stack: AsyncExitStack, settings: Settings, stop: asyncio.Event) -> Wired | None:
    said = ""
    while not stop.is_set():
        try:
            return await stack.enter_async_context(wired(settings))
        except Unreachable as error:
            if said != str(error):
                said = str(error)
                _log.warning("waiting", reason=said)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _RETRY_S)
    return None


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Wired]:
    """The parts over a real cluster; the place of the writer of control records is taken."""
    vault = Vault(settings.keys())
    with closing(await Codec.open(settings)) as codec:
        async with (
            aclosing(DeliveryClient.of(settings)) as client,
            Table(settings, CONTROL_TOPICS, (ENDPOINT_STATE, REPLAY_PROGRESS)) as table,
            ControlWriter(settings, codec, table) as control,
            Places(settings) as places,
            aclosing(Trials(client, _now_ms)) as trials,
        ):
            directory = Directory(table, codec)
            await directory.learn()
            publisher, log = Publisher(settings, timeout_s=ACK_S), AskedLog(lambda: open_log(log_url(settings)))
            records = Records(places, codec, ViewSubscribers(table, codec), partial(written, publisher))
            try:
                deps = _deps(
                    settings,
                    vault=vault,
                    sealing=Sealing(table, codec, vault),
                    trials=trials,
                    directory=directory,
                    keys=KeyRing(table, codec),
                    replays=Replays(table, codec),
                    plans=scanning.plans(settings, records, log, directory),
                    control=control,
                    ingest=EventIngest(codec, publisher),
                    history=History(log, records, Cancels(table, codec)),
                )
                await _prepare(deps, control)
                async with _beside(forgetting(deps), control.ended):
                    yield Wired(deps, control.ended)
            finally:
                log.close()
                await publisher.close()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, NoReturn], ended: asyncio.Future[BaseException]) -> AsyncIterator[None]:
    """Do this meanwhile; what it raises is a fault of ours, and ends the process."""
    task = asyncio.create_task(work)

    def told(done: asyncio.Task[NoReturn]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None and not ended.done():
            ended.set_result(error)

    task.add_done_callback(told)
    try:
        yield
    finally:
        task.cancel()


async def _prepare(deps: Deps, control: ControlWriter) -> None:
    """Make what is always there. Raises `Unreachable`, and `Fenced` when a newer process has taken the place."""
    try:
        await ensure_operations(deps)
    except Unreachable:
        if control.ended.done():
            raise control.ended.result() from None
        raise


def _deps(
    settings: Settings,
    *,
    vault: Vault,
    sealing: Sealing,
    trials: Trials,
    directory: Directory,
    keys: KeyRing,
    replays: Replays,
    plans: Plans,
    control: ControlWriter,
    ingest: EventIngest,
    history: History,
) -> Deps:
    return Deps(
        directory=directory,
        log=history.log,
        records=history.records,
        cancels=history.cancels,
        issued=Issued(),
        keys=keys,
        replays=replays,
        statuses=Statuses(history.log),
        plans=plans,
        control=control,
        ingest=ingest,
        quota=Quota(MAX_BATCH, time.monotonic),
        vault=vault,
        sealing=sealing,
        trials=trials,
        policy=EgressPolicy.parse(settings.egress_allow, https_required=not settings.egress_http),
        admin_key=settings.admin_key,
        clock=_now_ms,
        random=os.urandom,
        not_ready=lambda: [*control.troubles, *ingest.troubles],
        metrics=CollectorRegistry(),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _config(deps: Deps) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(deps), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_S
    )


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: whoever calls `serve` decides when to stop."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(f"--port {port}: {host}:{port} cannot be listened on: {error.strerror}") from error
        yield listener


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


async def _until(stop: asyncio.Event, *others: asyncio.Future[None] | asyncio.Future[BaseException]) -> None:
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({told, *others}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
