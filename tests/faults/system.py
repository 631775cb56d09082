"""The system under test, and what is around it: real processes, each a leashed child of the harness."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from confluent_kafka import Producer

from pipeline.embedded import EmbeddedCluster, leash
from pipeline.embedded.addresses import free_port, http_status
from pipeline.errors import Fenced
from pipeline.faults import ALLOWED, CONTROL, FAIL_AT, Control
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka import schemas, topics
from pipeline.kafka.clients import producer_config
from pipeline.kafka.codec import Codec
from pipeline.profiles import PROFILES, RANDOM_BYTES
from pipeline.settings import Settings
from pipeline.store.secrets import Secrets, Vault, seal_auth
from tests.faults.ledger import Kind
from tests.faults.plan import DURING_REPLAY, ROLES

LADDER = "retry-5s=100ms retry-60s=200ms"
"""The longest wait is eight times the longer tier."""
PARTITIONS = 4
_TENANTS: Mapping[Kind, int] = {Kind.QUICK: 7, Kind.SLOW: 2, Kind.FLAKY: 3, Kind.OUTAGE: 1}
_PROFILE = "standard"
_STOP_S = 40.0
_API_SHARE = 0.2
"""Of the events, so many come in over REST."""
_PAUSE_S = 0.5
MOST_AT_ONCE = 200
"""Requests to one endpoint: also those that take long must be able to take their share of what was held up."""
"""A worker that ended by itself is started again after this long."""

Say = Callable[[str], None]
Clock = Callable[[], int]


def hooks() -> dict[str, tuple[str, ...]]:
    """Every tenant and its webhooks: one each, two of the first quick one."""
    named = [f"{kind}-{number}" for kind, count in _TENANTS.items() for number in range(count)]
    return {tenant: ("wh_one", "wh_two") if tenant == "quick-0" else ("wh_one",) for tenant in named}


@dataclass(slots=True)
class Given:
    """A run's choices, kept in its folder so that it can be continued."""

    seed: int
    kills: int
    rate: int
    control: Control | None
    during: str | None = None
    """What goes on meanwhile: `replay`, or nothing but the flow."""
    key: str = field(default_factory=lambda: base64.b64encode(os.urandom(32)).decode())
    session: int = 0

    @property
    def roles(self) -> Mapping[str, int]:
        """The workers under test, and how many of each."""
        return DURING_REPLAY if self.during else ROLES

    @classmethod
    def read(cls, folder: Path) -> Given:
        """Those of an earlier run; raises OSError when there was none."""
        told = json.loads((folder / "run.json").read_text())
        return cls(**{**told, "control": told["control"] and Control(told["control"])})

    def write(self, folder: Path) -> None:
        """Keep them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(asdict(self)))


@dataclass(slots=True)
class Worker:
    """One `pipeline run ROLE`, watched: when it ends by itself it is started again, and `ended` hears of it."""

    name: str
    env: Mapping[str, str]
    logs: Path
    ended: Callable[[str, int], None]
    port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    child: leash.Child | None = None
    wanted: bool = False

    def start(self, fail_at: str = "") -> None:
        """Start it, to die at a point if one is named."""
        role = self.name.rpartition("-")[0]
        command = [sys.executable, "-m", "pipeline", "run", role, "--health-port", str(self.port)]
        command += ["--port", str(self.api_port)] if role == "api" else []
        env = {**self.env, ALLOWED: "1", FAIL_AT: fail_at} if fail_at else self.env
        self.child = leash.start(self.name, command, self.logs / f"{self.name}.log", env=env)
        self.wanted = not fail_at

    async def kill(self) -> None:
        """SIGKILL; it stays dead."""
        self.wanted = False
        if self.child is not None:
            await self.child.kill()

    async def drain(self) -> int:
        """SIGTERM; its exit code."""
        self.wanted = False
        return 0 if self.child is None else await self.child.stop(_STOP_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.child is not None:
            self.child.signal(number)

    async def dies(self, within_s: float) -> bool:
        """Whether it has ended by itself in time."""
        if self.child is None:
            return True
        try:
            await asyncio.wait_for(self.child.ended(), within_s)
        except TimeoutError:
            return False
        return True

    async def ready(self) -> bool:
        """Whether it says so."""
        return await http_status(self.port, "/readyz") == 200

    async def joins(self, within_s: float) -> None:
        """Wait until it has its partitions."""
        until = time.monotonic() + within_s
        while not await self.ready():
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name} is not ready: {self.child and self.child.last_words()}")
            await asyncio.sleep(0.1)

    async def watch(self) -> None:
        """Start it again whenever it ends by itself, until cancelled."""
        while True:
            await asyncio.sleep(0.1)
            if self.wanted and self.child is not None and (code := self.child.code()) is not None:
                self.ended(self.name, code)
                self.wanted = code != Fenced.exit_code
                await asyncio.sleep(_PAUSE_S)
                if self.wanted:
                    self.start()


@dataclass(slots=True)
class System:
    """All processes of a run."""

    folder: Path
    given: Given
    settings: Settings
    cluster: EmbeddedCluster
    workers: dict[str, Worker]
    receivers: dict[str, leash.Child]
    producers: list[leash.Child] = field(default_factory=list)

    async def ready(self, within_s: float = 90.0) -> None:
        """Wait until every worker that should run says that it is ready."""
        await asyncio.gather(*(worker.joins(within_s) for worker in self.workers.values()))

    def produce(self) -> None:
        """Start the producers."""
        shares = {"kafka": 1.0 - _API_SHARE, "api": _API_SHARE} if "api-0" in self.workers else {"kafka": 1.0}
        for kind, share in shares.items():
            session = f"{self.given.session}{kind[0]}"
            ledger = self.folder / "ledger" / f"produced-{session}.log"
            told = [kind, ledger, session, self.given.rate * share, *hooks()]
            env = {
                **bare(self.folder),
                "BOOTSTRAP": self.settings.bootstrap_servers,
                "REGISTRY": self.settings.schema_registry,
                "API": f"http://127.0.0.1:{self.workers['api-0'].api_port}" if kind == "api" else "",
                "API_KEY": self.settings.admin_key,
            }
            command = [sys.executable, "-m", "tests.faults.producer", *map(str, told)]
            self.producers.append(leash.start(f"producer-{kind}", command, self._log(f"producer-{kind}"), env=env))

    async def silence(self) -> None:
        """Stop the producers; every acknowledgement is on disk when this returns."""
        for child in self.producers:
            if code := await child.stop(90.0):
                raise RuntimeError(f"a producer ended with {code}: {child.last_words()}")

    def receive(self) -> dict[Kind, int]:
        """Start the receivers; the port that each kind of tenant is served on."""
        ports = {}
        for name in ("there", "outage"):
            ports[name] = free_port()
            ledger = self.folder / "ledger" / f"received-{self.given.session}-{name}.log"
            command = [sys.executable, "-m", "tests.faults.receiver", str(ports[name]), str(ledger)]
            log = self._log(f"receiver-{name}")
            self.receivers[name] = leash.start(f"receiver-{name}", command, log, env=bare(self.folder))
        return {kind: ports["outage" if kind is Kind.OUTAGE else "there"] for kind in Kind}

    async def introduce(self, ports: Mapping[Kind, int]) -> None:
        """Write the tenants and their webhooks as the API writes them, each at its receiver of this session."""
        codec = await Codec.open(self.settings)
        vault, scheme = Vault(self.settings.keys()), PROFILES[_PROFILE].schemes[0]
        producer = Producer(producer_config(self.settings))
        for ident, webhooks in hooks().items():
            kind = Kind(ident.partition("-")[0])
            tenant = Tenant(ident, ident, _PROFILE, data_key=vault.new_tenant_key(ident))
            producer.produce(topics.TENANTS, codec.encode_tenant(tenant), ident)
            for webhook in webhooks:
                held = Secrets(scheme.generate(os.urandom(RANDOM_BYTES)))
                auth = Auth(scheme.name, seal_auth(vault.tenant_vault(tenant), ident, webhook, held, 1))
                url = f"http://127.0.0.1:{ports[kind]}/{kind}/{ident}/{webhook}"
                made = Subscription(ident, webhook, url, ("*",), auth, max_in_flight=MOST_AT_ONCE)
                producer.produce(topics.SUBSCRIPTIONS, codec.encode_subscription(made), made.path)
        if producer.flush(60):
            raise TimeoutError("tenants and webhooks could not be written")
        codec.close()

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def more(self, name: str) -> Worker:
        """Another worker of a role that there is."""
        like = self.workers[f"{name.rpartition('-')[0]}-0"]
        return Worker(name, like.env, like.logs, like.ended)


def bare(folder: Path) -> dict[str, str]:
    """An environment with nothing of whoever started the harness."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder)}


@asynccontextmanager
async def running(folder: Path, given: Given, ended: Callable[[str, int], None], say: Say) -> AsyncIterator[System]:
    """Everything started and ready, except the producers; all of it ends with the `async with`."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(EmbeddedCluster(folder / "cluster", on_progress=say))
        settings = Settings(
            bootstrap_servers=cluster.bootstrap,
            schema_registry=cluster.registry,
            encryption_keys=f"faults:{given.key}",
            admin_key="faults-admin-key",
            ladder=LADDER,
            data_dir=folder / "roles",
        )
        await asyncio.to_thread(topics.create, settings, PARTITIONS, 1)
        await asyncio.to_thread(schemas.register, settings)
        names = [f"{role}-{slot}" for role, count in given.roles.items() for slot in range(count)]
        env = _environ(folder, settings, given.control)
        workers = {name: Worker(name, env, folder / "logs", ended) for name in names}
        system = System(folder, given, settings, cluster, workers, {})
        stack.push_async_callback(_stopped, system)
        await system.introduce(system.receive())
        for worker in workers.values():
            worker.start()
        say("waiting until the workers are ready")
        await system.ready()
        watching = [asyncio.create_task(worker.watch()) for worker in workers.values()]
        try:
            yield system
        finally:
            for task in watching:
                task.cancel()


def _environ(folder: Path, settings: Settings, control: Control | None) -> dict[str, str]:
    return {
        **bare(folder),
        "PIPELINE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PIPELINE_SCHEMA_REGISTRY": settings.schema_registry,
        "PIPELINE_ENCRYPTION_KEYS": settings.encryption_keys,
        "PIPELINE_ADMIN_KEY": settings.admin_key,
        "PIPELINE_DATA_DIR": str(settings.data_dir),
        "PIPELINE_LADDER": settings.ladder,
        "PIPELINE_EGRESS_ALLOW": "127.0.0.0/8",
        "PIPELINE_INSTANCE_ID": "faults",
        "PIPELINE_LOG_LEVEL": "warning",
        **({ALLOWED: "1", CONTROL: control} if control else {}),
    }


async def _stopped(system: System) -> None:
    """Kill what still runs: the run is over, nobody waits for it."""
    others = [*system.receivers.values(), *system.producers]
    await asyncio.gather(*(worker.kill() for worker in system.workers.values()), *(child.kill() for child in others))
