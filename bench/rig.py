"""What every case stands on: an embedded broker, role processes, receivers, tenants and a load."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from pipeline.embedded.addresses import free_port, http_status
from pipeline.embedded.cluster import EmbeddedCluster
from pipeline.flow.event import Event
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka import schemas, topics
from pipeline.kafka.clients import producer_config
from pipeline.kafka.codec import Codec
from pipeline.kafka.publisher import Publisher
from pipeline.ports import Outgoing
from pipeline.profiles import PROFILES, RANDOM_BYTES
from pipeline.settings import Settings
from pipeline.store.secrets import Secrets, Vault, seal_auth

TENANTS = 400
PARTITIONS = 4
PAD = "x" * 460
LOAD_STEP = 500


@dataclass(slots=True)
class Receiver:
    """The receiver's process, asked over its standard streams."""

    process: subprocess.Popen[str]
    port: int

    @classmethod
    def start(cls, delay_s: float = 0.0) -> Receiver:
        """Start one that takes `delay_s` for each request."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.receiver", str(delay_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        receiver = cls(process, 0)
        receiver.port = receiver._answer()["port"]
        return receiver

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command, return its answer."""
        assert self.process.stdin is not None  # noqa: S101 - it was started with a pipe
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    async def received(self, wanted: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `wanted` requests have come."""
        until = time.monotonic() + timeout_s
        while (tally := self.ask("count"))["requests"] < wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"{tally['requests']} of {wanted} requests came within {timeout_s} s")
            await asyncio.sleep(0.05)
        return tally


@dataclass(slots=True)
class Rig:
    """A broker with topics and schemas, and what is needed to use it."""

    settings: Settings
    cluster: EmbeddedCluster
    codec: Codec
    publisher: Publisher
    vault: Vault
    roles: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def start(self, *names: str) -> None:
        """Start roles (`sender-0`), each a process, and wait until they are ready."""
        ports = {name: free_port() for name in names}
        for name, port in ports.items():
            self.roles[name] = self._spawn(name, port)
        for name, port in ports.items():
            await _ready(self.settings.data_dir / f"{name}.log", self.roles[name], port)

    async def stop(self, *names: str) -> None:
        """Drain roles."""
        for name in names:
            self.roles[name].terminate()
        for name in names:
            await asyncio.to_thread(self.roles.pop(name).wait)

    def cpu_s(self, prefix: str) -> float:
        """CPU seconds that the processes of this name have used so far (`kafka` is the broker)."""
        pids = [process.pid for name, process in self.roles.items() if name.startswith(prefix)]
        return sum(_cpu_s(pid) for pid in pids or [self.cluster.pids[prefix]])

    async def add_tenants(self, name: str, port: int) -> None:
        """`TENANTS` tenants of profile standard, one signed webhook each, all at one receiver."""
        for number in range(TENANTS):
            tenant = f"{name}{number}"
            await self._put(Tenant(tenant, tenant, "standard", data_key=self.vault.new_tenant_key(tenant)), port)

    async def _put(self, tenant: Tenant, port: int) -> None:
        vault, scheme = self.vault.tenant_vault(tenant), PROFILES[tenant.profile].schemes[0]
        sealed = seal_auth(vault, tenant.id, "wh_bench", Secrets(scheme.generate(os.urandom(RANDOM_BYTES))), 1)
        url = f"http://127.0.0.1:{port}/{tenant.id}"
        webhook = Subscription(tenant.id, "wh_bench", url, ("*",), Auth(scheme.name, sealed))
        await self.publisher.publish(Outgoing(topics.TENANTS, tenant.id.encode(), self.codec.encode_tenant(tenant)))
        value = self.codec.encode_subscription(webhook)
        await self.publisher.publish(Outgoing(topics.SUBSCRIPTIONS, webhook.path.encode(), value))

    def send(self, name: str, number: int) -> asyncio.Future[Any]:
        """Produce one event with 500 bytes of data that tell when it was produced."""
        return self.publisher.publish(Outgoing(topics.EVENTS, None, self.event(name, number)))

    def event(self, name: str, number: int) -> bytes:
        """The record of an event."""
        now = time.time_ns()
        data = f'{{"sent_ns":{now},"pad":"{PAD}"}}'
        event = Event(f"{name}-{number}", f"{name}{number % TENANTS}", "bench.event", now // 1_000_000, data)
        return self.codec.encode_event(event)

    async def send_many(self, name: str, count: int) -> int:
        """Produce `count` events as fast as it goes; returns when the first was on Kafka (ns since the epoch)."""
        events = [self.event(name, number) for number in range(count)]
        return await asyncio.to_thread(self._load, events)

    def _load(self, events: list[bytes]) -> int:
        """A load generator's loop: the producer alone, which costs as little as it can."""
        producer = Producer(producer_config(self.settings))
        producer.produce(topics.EVENTS, events[0])
        producer.flush(60)
        begun = time.time_ns()
        for number, event in enumerate(events[1:], 1):
            producer.produce(topics.EVENTS, event)
            if number % LOAD_STEP == 0:
                producer.poll(0)
        producer.flush(60)
        return begun

    async def routed(self) -> None:
        """Wait until the router has committed all events."""
        while await asyncio.to_thread(self._unrouted):  # noqa: ASYNC110 - only Kafka knows
            await asyncio.sleep(0.2)

    def _unrouted(self) -> int:
        client = topics.admin(self.settings)
        asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions("pipeline-router")])
        held = asked["pipeline-router"].result(10).topic_partitions or []
        ends = client.list_offsets({TopicPartition(p.topic, p.partition): OffsetSpec.latest() for p in held})
        return int(sum(end.result(10).offset for end in ends.values()) - sum(p.offset for p in held))

    def _spawn(self, name: str, port: int) -> subprocess.Popen[bytes]:
        settings = self.settings
        env = {
            **os.environ,
            "PIPELINE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "PIPELINE_SCHEMA_REGISTRY": settings.schema_registry,
            "PIPELINE_ENCRYPTION_KEYS": settings.encryption_keys,
            "PIPELINE_DATA_DIR": str(settings.data_dir),
            "PIPELINE_EGRESS_ALLOW": "127.0.0.0/8",
            "PIPELINE_HEALTH_PORT": str(port),
        }
        role = name.partition("-")[0]
        log = (settings.data_dir / f"{name}.log").open("wb")
        return subprocess.Popen([sys.executable, "-m", "pipeline", "run", role], env=env, stdout=log, stderr=log)


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """A fresh broker in `folder`, topics made, schemas registered; all that was started is stopped at the end."""
    async with EmbeddedCluster(folder / "cluster", on_progress=say) as cluster:
        keys = "bench:" + base64.b64encode(os.urandom(32)).decode()
        settings = Settings.read(
            {},
            bootstrap_servers=cluster.bootstrap,
            schema_registry=cluster.registry,
            encryption_keys=keys,
            data_dir=folder,
        )
        await asyncio.to_thread(topics.create, settings, PARTITIONS, 1)
        await asyncio.to_thread(schemas.register, settings)
        publisher = Publisher(settings)
        made = Rig(settings, cluster, await Codec.open(settings), publisher, Vault(settings.keys()))
        try:
            yield made
        finally:
            await made.stop(*made.roles)
            await publisher.close()


def say(line: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(line + "\n")


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def _ready(log: Path, process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 60
    while await http_status(port, "/readyz") != 200:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"not ready: {await asyncio.to_thread(log.read_text)}")
        await asyncio.sleep(0.05)
