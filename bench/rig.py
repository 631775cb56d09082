"""What every case stands on: an embedded broker, role processes, tenants and a load."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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
PAD = "x" * 450
LOAD_STEP = 500


@dataclass(slots=True)
class Rig:
    """A broker with topics and schemas, and what is needed to use it."""

    settings: Settings
    cluster: EmbeddedCluster
    codec: Codec
    publisher: Publisher
    vault: Vault
    environ: Mapping[str, str]
    """Settings of the roles besides the usual ones."""
    roles: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    api_port: int = field(default_factory=free_port)

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
        """`TENANTS` tenants, one webhook each, all at one receiver."""
        for number in range(TENANTS):
            await self.add(f"{name}{number}", [f"http://127.0.0.1:{port}/{name}{number}"])

    async def add(self, name: str, urls: Sequence[str], **fields: Any) -> list[Subscription]:
        """A tenant of profile standard, and a signed webhook for each URL; `fields` are the webhooks' own."""
        tenant = Tenant(name, name, "standard", data_key=self.vault.new_tenant_key(name))
        vault, scheme = self.vault.tenant_vault(tenant), PROFILES[tenant.profile].schemes[0]
        webhooks = []
        for number, url in enumerate(urls):
            webhook = f"wh_{number}"
            sealed = seal_auth(vault, name, webhook, Secrets(scheme.generate(os.urandom(RANDOM_BYTES))), 1)
            webhooks.append(Subscription(name, webhook, url, ("*",), Auth(scheme.name, sealed), **fields))
        await self.publisher.publish(Outgoing(topics.TENANTS, name.encode(), self.codec.encode_tenant(tenant)))
        await self.put(webhooks)
        return webhooks

    async def put(self, webhooks: Iterable[Subscription]) -> None:
        """Write these webhooks' records."""
        encode = self.codec.encode_subscription
        records = (Outgoing(topics.SUBSCRIPTIONS, webhook.path.encode(), encode(webhook)) for webhook in webhooks)
        await asyncio.gather(*map(self.publisher.publish, records))

    def send(self, name: str, number: int) -> asyncio.Future[Any]:
        """Produce one event for one of the `TENANTS`."""
        return self.publisher.publish(Outgoing(topics.EVENTS, None, self.event(f"{name}{number % TENANTS}", number)))

    def event(self, tenant: str, number: int) -> bytes:
        """The record of an event with 500 bytes of data that tell its number and when it was produced."""
        now = time.time_ns()
        data = f'{{"sent_ns":{now},"n":{number},"pad":"{PAD}"}}'
        return self.codec.encode_event(Event(f"{tenant}-{number}", tenant, "bench.event", now // 1_000_000, data))

    async def send_many(self, name: str, count: int) -> int:
        """Produce `count` events as fast as it goes; returns when the first was on Kafka (ns since the epoch)."""
        return await self.load([self.event(f"{name}{number % TENANTS}", number) for number in range(count)])

    async def load(self, events: Sequence[bytes]) -> int:
        """The same for records that are made already."""
        return await asyncio.to_thread(self._load, events)

    def _load(self, events: Sequence[bytes]) -> int:
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
            **self.environ,
        }
        role = name.partition("-")[0]
        command = [sys.executable, "-m", "pipeline", "run", role]
        command += ["--port", str(self.api_port)] if role == "api" else []
        log = (settings.data_dir / f"{name}.log").open("wb")
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


@asynccontextmanager
async def rig(folder: Path, **environ: str) -> AsyncIterator[Rig]:
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
        made = Rig(settings, cluster, await Codec.open(settings), publisher, Vault(settings.keys()), environ)
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
