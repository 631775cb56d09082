"""The API's parts without a broker: a view in memory that passes the same tests as the real one."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

from confluent_kafka.schema_registry import SchemaRegistryClient
from prometheus_client import CollectorRegistry

from pipeline.api.deps import Deps
from pipeline.api.events import MAX_BATCH
from pipeline.api.log.asking import AskedLog
from pipeline.api.log.issued import Issued
from pipeline.api.log.records import Records
from pipeline.api.log.statuses import Statuses
from pipeline.api.planning import Plans, Told
from pipeline.api.quota import Quota
from pipeline.api.targets import with_target
from pipeline.api.trying import Trials
from pipeline.errors import PipelineError, Unreachable, UsageError
from pipeline.flow.audit import Audit
from pipeline.flow.deliver import Outcome, OutgoingRequest
from pipeline.flow.event import Event
from pipeline.flow.replay import Replay, Span
from pipeline.flow.window import Asked, Gap, Window
from pipeline.http.guard import EgressPolicy
from pipeline.kafka.cancels import Cancels
from pipeline.kafka.changes import Change, record_of
from pipeline.kafka.codec import Codec
from pipeline.kafka.schemas import SUBJECTS
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.topics import CONTROL_TOPICS, ENDPOINT_STATE, EVENTS, REPLAY_PROGRESS
from pipeline.kafka.windows import Log, window
from pipeline.ports import Outgoing, Record, Subscribers
from pipeline.store.directory import Directory
from pipeline.store.keys import KeyRing
from pipeline.store.log import DeliveryLog, open_log
from pipeline.store.replays import Replays
from pipeline.store.sealing import Sealing
from pipeline.store.secrets import Vault
from pipeline.store.targets import not_ours
from pipeline.workers.planning import Parts as Planning
from pipeline.workers.planning import Plan, plan
from pipeline.workers.sifting import Fate, Names, Sifted
from tests.prepared import ADMIN_KEY

NOW_MS = 1_767_225_600_000
VAULT_KEY = ("k1", bytes(range(32)))
FOLLOWED = (ENDPOINT_STATE, REPLAY_PROGRESS)
"""Topics whose ends nobody waits for."""


def offline_codec() -> Codec:
    """A codec that knows our own schemas, under ids of its own, and asks no registry for them."""
    client = SchemaRegistryClient({"url": "http://127.0.0.1:1"})
    return Codec(client, {name: bytes([0, 0, 0, 0, number]) for number, name in enumerate(SUBJECTS.values(), 1)})


class MemoryView:
    """The newest records of the control topics, in memory."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, bytes]] = {topic: {} for topic in (*CONTROL_TOPICS, *FOLLOWED)}
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
        return {(topic, 0): offset for topic, offset in self.offsets.items() if topic not in FOLLOWED}

    async def caught_up(self, ends: dict[tuple[str, int], int]) -> None:
        """Nothing to wait for."""
        assert all(self.offsets[topic] >= end for (topic, _), end in ends.items())


class MemoryControl:
    """Writes into a memory view; `down` makes it as if no broker answered."""

    def __init__(self, view: MemoryView, codec: Codec) -> None:
        self.view, self.codec, self.down = view, codec, False
        self.audits: list[Audit] = []
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """A lock for each tenant."""
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            yield

    async def write(self, audit: Audit, *changes: Change) -> None:
        """At once, but after others had their turn."""
        if self.down:
            raise Unreachable("Kafka did not take the change: nothing has been changed; try again")
        await asyncio.sleep(0)  # others run while a real write is under way
        for change in changes:
            record = record_of(change, self.codec)
            self.view.put(record.topic, record.key, record.value)
        self.audits.append(audit)


@dataclass
class MemoryIngest:
    """Keeps the events; those whose id is in `lost` are as if no broker had acknowledged them."""

    events: list[Event] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    async def publish(self, events: Sequence[Event]) -> list[PipelineError | None]:
        """All but the lost ones."""
        self.events += [event for event in events if event.id not in self.lost]
        return [Unreachable("not confirmed") if event.id in self.lost else None for event in events]


class NoClient:
    """For tests in which nothing is sent."""

    async def send(self, request: OutgoingRequest) -> Outcome:
        """Never asked."""
        raise AssertionError(f"nothing was to be sent to {request.url}")


@dataclass
class MemoryRecords:
    """The flow's records by topic and place. What is published follows there; `down` is as if no broker answered.

    `routed` is how far the router has come in `events`; None: to the end.
    """

    held: dict[str, list[Record | None]] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)
    down: bool = False
    routed: int | None = None

    def put(self, out: Outgoing, timestamp_ms: int = NOW_MS) -> Record:
        """A record of partition 0; where it lies."""
        held = self.held.setdefault(out.topic, [])
        held.append(Record(out.topic, 0, len(held), out.key, out.value, out.headers, timestamp_ms))
        return cast("Record", held[-1])

    def trim(self, topic: str) -> None:
        """Retention has taken all that is there."""
        self.held[topic] = [None for _ in self.held[topic]]

    async def read(self, topic: str, partition: int, offsets: Iterable[int]) -> dict[int, Record]:
        """Those that are there."""
        if self.down:
            raise Unreachable("Kafka does not give a record")
        held = dict(enumerate(self.held.get(topic, []))) if partition == 0 else {}
        return {offset: record for offset in offsets if (record := held.get(offset)) is not None}

    async def publish(self, records: Sequence[Outgoing]) -> list[PipelineError | None]:
        """At once, but after others had their turn."""
        await asyncio.sleep(0)
        if self.down:
            return [Unreachable("Kafka has not confirmed the record in time") for _ in records]
        self.published += records
        for one in records:
            self.put(one)
        return [None for _ in records]


def memory_window(records: MemoryRecords, topic: str, asked: Asked) -> Window:
    """What was asked for as offsets of partition 0, as `pipeline.kafka.windows` says it of a real log."""
    if strange := set(asked.offsets) - {0}:
        raise UsageError(f"topic {topic} has no partition {min(strange)}: its partitions are 0 to 0")
    held = records.held.get(topic, [])
    times = {at: one.timestamp_ms for at, one in enumerate(held) if one is not None}
    begin = min(times, default=len(held))
    log = Log({0: begin}, {0: len(held)}, {0: times[begin]} if times else {}, {0: max(times.values())} if times else {})

    def at(time_ms: int | None, otherwise: int) -> int:
        later = (place for place, at_ms in times.items() if time_ms is not None and at_ms >= time_ms)
        return otherwise if time_ms is None else min(later, default=len(held))

    start, end = asked.offsets.get(0, (at(asked.from_ms, begin), at(asked.to_ms, len(held))))
    routed = len(held) if records.routed is None or not asked.routed else records.routed
    return window(asked, log, {0: start}, {0: end}, {0: routed})


@dataclass
class MemoryScan:
    """Implements `pipeline.workers.planning.Scanning` over records in memory: all of them must be decoded."""

    records: list[Record]
    next: dict[int, int]
    taken: dict[int, int] = field(default_factory=dict)
    over: bool = False

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(self, *_raised: object) -> None:
        """Nothing to close."""

    async def sift(self, _limit: int, _wait_s: float, _fates: Mapping[Names, Fate]) -> Sifted:
        """All at once."""
        self.over = True
        return Sifted(len(self.records), read=self.records)


def memory_plans(records: MemoryRecords, codec: Codec, subscribers: Subscribers, log: AskedLog) -> Plans:
    """Of the records in memory; no webhook has a rate."""

    async def resolve(topic: str, asked: Asked) -> Window:
        return memory_window(records, topic, asked)

    def scan(spans: Sequence[Span]) -> MemoryScan:
        held = records.held.get(EVENTS, [])
        inside = [one for span in spans for one in held[span.start : span.end] if one is not None]
        return MemoryScan(inside, {span.partition: span.end for span in spans})

    async def learn(values: Sequence[bytes | None]) -> None:
        await codec.learn(not_ours(codec, values))

    async def count(order: Replay, gap: Gap | None, told: Told) -> Plan:
        parts = Planning(codec, learn, with_target(subscribers, order), scan, log, lambda *_: None)
        return await plan(parts, order, told, gap)

    return Plans(resolve, count)


def temporary_log() -> AskedLog:
    """A delivery log of its own on SQLite, made when it is first asked; its folder goes with it."""

    def opened() -> DeliveryLog:
        folder = tempfile.mkdtemp(prefix="log-")
        weakref.finalize(log, shutil.rmtree, folder, ignore_errors=True)
        return open_log(f"sqlite:///{folder}/log.sqlite")

    log = AskedLog(opened)
    return log


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
    records: MemoryRecords


def memory_parts(**more: Any) -> Parts:
    view, codec, vault, clock = MemoryView(), offline_codec(), Vault((VAULT_KEY,)), [NOW_MS]
    control, ingest, not_ready = MemoryControl(view, codec), MemoryIngest(), list[str]()
    ticks, records, log = itertools.count(), MemoryRecords(), more.get("log") or temporary_log()
    subscribers = ViewSubscribers(cast("Any", view), codec)
    parts = {
        "directory": Directory(view, codec),
        "log": log,
        "records": Records(records, codec, subscribers, records.publish),
        "cancels": Cancels(view, codec),
        "issued": Issued(),
        "keys": KeyRing(view, codec),
        "replays": Replays(view, codec),
        "statuses": Statuses(log),
        "plans": memory_plans(records, codec, subscribers, log),
        "control": control,
        "ingest": ingest,
        "quota": Quota(MAX_BATCH, lambda: clock[0] / 1000),
        "vault": vault,
        "sealing": Sealing(view, codec, more.get("vault", vault)),
        "trials": Trials(NoClient(), lambda: clock[0] + next(ticks)),
        "policy": EgressPolicy(),
        "admin_key": ADMIN_KEY,
        "clock": lambda: clock[0] + next(ticks),
        "random": os.urandom,
        "not_ready": lambda: not_ready,
        "metrics": CollectorRegistry(),
    }
    return Parts(view, codec, vault, control, ingest, not_ready, Deps(**{**parts, **more}), clock, records)
