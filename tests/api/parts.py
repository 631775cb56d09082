"""The API's parts without a broker: a view in memory that passes the same tests as the real one."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient
from prometheus_client import CollectorRegistry

from pipeline.api.deps import Deps
from pipeline.errors import PipelineError, Unreachable
from pipeline.flow.event import Event
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.codec import Codec
from pipeline.kafka.control import Change, Removed
from pipeline.kafka.schemas import SUBJECTS
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.store.directory import Directory
from pipeline.store.secrets import Vault
from tests.prepared import ADMIN_KEY

NOW_MS = 1_767_225_600_000
VAULT_KEY = ("k1", bytes(range(32)))


def offline_codec() -> Codec:
    """A codec that knows our own schemas, under ids of its own, and asks no registry for them."""
    client = SchemaRegistryClient({"url": "http://127.0.0.1:1"})
    return Codec(client, {name: bytes([0, 0, 0, 0, number]) for number, name in enumerate(SUBJECTS.values(), 1)})


class MemoryView:
    """The newest records of the control topics, in memory."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, bytes]] = {SUBSCRIPTIONS: {}, TENANTS: {}, ENDPOINT_STATE: {}}
        self.offsets = dict.fromkeys(self.records, 0)
        self._watchers: list[Callable[[str, str], None]] = []
        self.asked = 0
        self.on_asked: Callable[[], None] = lambda: None

    def put(self, topic: str, key: str, value: bytes | None) -> None:
        """Write a record; None removes it."""
        if value is None:
            self.records[topic].pop(key, None)
        else:
            self.records[topic][key] = value
        self.offsets[topic] += 1
        for changed in self._watchers:
            changed(topic, key)

    def get(self, topic: str, key: str) -> bytes | None:
        """The record of that key."""
        return self.records[topic].get(key)

    def keys(self, topic: str, group: str | None = None) -> Iterator[str]:
        """All keys, or those of one tenant."""
        return iter([key for key in self.records[topic] if group in (None, key.partition("/")[0])])

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(topic, key)` after every change."""
        self._watchers.append(changed)

    def offset(self, topic: str) -> int:
        """How far the topic has been read."""
        return self.offsets[topic]

    async def reached(self, topic: str, offset: int) -> None:
        """Nothing to wait for."""
        assert self.offsets[topic] >= offset

    async def ends(self) -> dict[tuple[str, int], int]:
        """Where the topics end; counted."""
        self.asked += 1
        self.on_asked()
        return {(topic, 0): offset for topic, offset in self.offsets.items() if topic != ENDPOINT_STATE}

    async def caught_up(self, ends: dict[tuple[str, int], int]) -> None:
        """Nothing to wait for."""
        assert all(self.offsets[topic] >= end for (topic, _), end in ends.items())


class MemoryControl:
    """Writes into a memory view; `down` makes it as if no broker answered."""

    def __init__(self, view: MemoryView, codec: Codec) -> None:
        self.view, self.codec, self.down = view, codec, False
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """A lock for each tenant."""
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            yield

    async def write(self, *changes: Change) -> None:
        """At once, but after others had their turn."""
        if self.down:
            raise Unreachable("Kafka did not take the change: nothing has been changed; try again")
        await asyncio.sleep(0)  # others run while a real write is under way
        for change in changes:
            match change:
                case Tenant():
                    self.view.put(TENANTS, change.id, self.codec.encode_tenant(change))
                case Subscription():
                    self.view.put(SUBSCRIPTIONS, change.path, self.codec.encode_subscription(change))
                case Removed(tenant, None):
                    self.view.put(TENANTS, tenant, None)
                case Removed(tenant, webhook):
                    self.view.put(SUBSCRIPTIONS, f"{tenant}/{webhook}", None)


@dataclass
class MemoryIngest:
    """Keeps the events; those whose id is in `lost` are as if no broker had acknowledged them."""

    events: list[Event] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    async def publish(self, events: Sequence[Event]) -> list[PipelineError | None]:
        """All but the lost ones."""
        self.events += [event for event in events if event.id not in self.lost]
        return [Unreachable("not confirmed") if event.id in self.lost else None for event in events]


@dataclass
class Parts:
    """All of them, for a test to look into."""

    view: MemoryView
    codec: Codec
    vault: Vault
    control: MemoryControl
    ingest: MemoryIngest
    not_ready: list[str]
    deps: Deps
    clock: list[int]


def memory_parts(**more: Any) -> Parts:
    view, codec, vault, clock = MemoryView(), offline_codec(), Vault((VAULT_KEY,)), [NOW_MS]
    control, ingest, not_ready = MemoryControl(view, codec), MemoryIngest(), list[str]()
    ticks = itertools.count()
    parts = {
        "directory": Directory(view, codec),
        "control": control,
        "ingest": ingest,
        "vault": vault,
        "policy": EgressPolicy(),
        "admin_key": ADMIN_KEY,
        "clock": lambda: clock[0] + next(ticks),
        "random": os.urandom,
        "not_ready": lambda: not_ready,
        "metrics": CollectorRegistry(),
    }
    return Parts(view, codec, vault, control, ingest, not_ready, Deps(**{**parts, **more}), clock)
