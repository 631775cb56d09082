"""Everything on one machine, supervised: what `up` and `demo` have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.cli._private import Keys, keep_keys, write_api
from pipeline.embedded import EmbeddedCluster, Role, Supervisor
from pipeline.embedded.addresses import HOST, claim, free_port
from pipeline.embedded.datadir import DataDir
from pipeline.errors import UsageError
from pipeline.kafka import schemas, topics
from pipeline.settings import Settings

Say = Callable[[str], None]
"""Hears one sentence about what goes on."""

LOOPBACK = "127.0.0.0/8 ::1/128"
LOCAL: Mapping[str, str] = {"PIPELINE_EGRESS_ALLOW": LOOPBACK, "PIPELINE_EGRESS_HTTP": "true"}
"""The environment's defaults here: endpoints may live on this machine, and without TLS."""

_EMBEDDED, _NAMED = (4, 1), (12, -1)
"""Partitions and copies of each topic; -1 leaves it to the broker."""
_READY_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run. Ports of 0 are any free ones; where `settings` name Kafka and a registry, none are started."""

    settings: Settings
    kafka_port: int = 0
    registry_port: int = 0
    api_port: int = 0
    routers: int = 1
    senders: int = 1
    recorders: int = 1
    replayers: int = 1

    @property
    def embedded(self) -> bool:
        """Whether a broker and a registry are started here. Raises `UsageError` when only one of them is named."""
        named = bool(self.settings.bootstrap_servers), bool(self.settings.schema_registry)
        if named in {(True, False), (False, True)}:
            raise UsageError("name both or none: --bootstrap-server (a Kafka) and --schema-registry (its registry)")
        return not any(named)


@asynccontextmanager
async def platform(plan: Plan, say: Say) -> AsyncIterator[Settings]:
    """Run it all; gives settings that name what runs, once everything is ready.

    What dies is started again. At the end the workers drain and stop first, then the API, then registry and broker.
    Raises `EmbeddedError`, `Unreachable` and `UsageError` in plain sentences.
    """
    settings = replace(plan.settings, data_dir=plan.settings.data_dir.absolute())
    embedded, port = plan.embedded, claim(plan.api_port, "the API", "--api-port")
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(_cluster(plan, settings, say))
        keys = keep_keys(settings)
        await _prepare(settings, embedded=embedded)
        settings = replace(settings, api_url=f"http://{HOST}:{port}", api_key=keys.admin)
        say("starting the roles")
        async with _roles(plan, settings, keys, port, say):
            stack.callback(write_api(settings).unlink, missing_ok=True)
            try:
                yield settings
            finally:
                say("stopping: what is under way is finished first")


def ready_line(settings: Settings) -> str:
    """The line that says that everything is ready, and where it is."""
    return (
        f"ready bootstrap={settings.bootstrap_servers} registry={settings.schema_registry} "
        f"api={settings.api_url} data={settings.data_dir}"
    )


@asynccontextmanager
async def _cluster(plan: Plan, settings: Settings, say: Say) -> AsyncIterator[Settings]:
    """The embedded broker and registry, or those that are named; either way the directory is ours alone."""
    if plan.embedded:
        async with EmbeddedCluster(settings.data_dir, plan.kafka_port, plan.registry_port, say) as cluster:
            yield replace(settings, bootstrap_servers=cluster.bootstrap, schema_registry=cluster.registry)
    else:
        directory = DataDir(settings.data_dir)
        await directory.lock()
        try:
            yield settings
        finally:
            directory.unlock()


async def _prepare(settings: Settings, *, embedded: bool) -> None:
    """Topics and schemas, at once: neither needs the other."""
    make = partial(topics.create, settings, *(_EMBEDDED if embedded else _NAMED))
    await together(asyncio.to_thread(make), asyncio.to_thread(schemas.register, settings))


@asynccontextmanager
async def _roles(plan: Plan, settings: Settings, keys: Keys, api_port: int, say: Say) -> AsyncIterator[None]:
    """The API, then the workers; stopped in the opposite order."""
    counts = {
        "router": plan.routers,
        "sender": plan.senders,
        "delay": 1,
        "recorder": plan.recorders,
        "replayer": plan.replayers,
    }
    names = [f"{role}-{number}" for role, count in counts.items() for number in range(count)]
    make = partial(_role, environ=_environ(settings, keys))
    api = make("api-0", "--port", api_port)
    workers = [make(name, "--health-port", port) for name, port in zip(names, _free_ports(len(names)), strict=True)]
    logs = settings.data_dir / "logs"
    async with (
        Supervisor([api], logs, on_event=say) as apis,
        Supervisor(workers, logs, on_event=say) as others,
    ):
        await together(apis.wait_ready(_READY_S), others.wait_ready(_READY_S))
        yield


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Do it all at once; the first failure ends the rest."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _role(name: str, option: str, port: int, environ: Mapping[str, str]) -> Role:
    """A process; it tells on that port whether it is ready."""
    command = [sys.executable, "-m", "pipeline", "run", name.rpartition("-")[0], option, str(port)]
    return Role(name, command, port, environ)


def _environ(settings: Settings, keys: Keys) -> dict[str, str]:
    """The processes' settings. Secrets come from our own environment, or from files."""
    told = {
        "BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SCHEMA_REGISTRY": settings.schema_registry,
        "DATA_DIR": str(settings.data_dir),
        "EGRESS_ALLOW": settings.egress_allow,
        "EGRESS_HTTP": str(settings.egress_http).lower(),
        "EGRESS_CA": settings.egress_ca,
        "EGRESS_PROXY": settings.egress_proxy,
        "EGRESS_NAME_SERVERS": settings.egress_name_servers,
    }
    return {**{f"PIPELINE_{name}": value for name, value in told.items()}, **keys.environ}


def _free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
