"""Replays at work over a window, views and a broker in memory: real codec, tracker, matching and jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from pipeline.errors import Unreachable
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.history import Status
from pipeline.flow.replay import Ordered, Progress, Replay, Span
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka.feed import Batch
from pipeline.kafka.job import Job
from pipeline.kafka.jobs import Jobs
from pipeline.kafka.pacing import Paces
from pipeline.kafka.processing import Doing, Learning
from pipeline.kafka.publisher import Report
from pipeline.kafka.reading import Parts, Run
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.topics import ENDPOINT_STATE, REPLAY_PROGRESS, REPLAYS, SUBSCRIPTIONS, TENANTS
from pipeline.kafka.tracker import Progress as Offsets
from pipeline.ports import Outgoing, Record, Work
from pipeline.workers.chosen import Chosen
from pipeline.workers.matching import Making, Matching
from pipeline.workers.replaying import Course, share_of
from pipeline.workers.router import Router
from tests.workers.parts import CODEC, NOW_MS, UNDERTAKER

TO = "deliveries-replay"
FAST = 2_000.0
PATIENCE_S = 10.0
ORDER = Replay("rpl_1", "acme", Ordered.RUNNING, (Span(0, 0, 10), Span(1, 0, 10)), rate=FAST, created_ms=NOW_MS)


def event(number: int, tenant: str = "acme", kind: str = "order.paid") -> Event:
    return Event(f"evt-{number}", tenant, kind, NOW_MS, '{"a":1}')


def written(partition: int, offset: int, what: Event | bytes, headers: Iterable[tuple[str, bytes]] = ()) -> Record:
    """A record of `events`."""
    value = what if isinstance(what, bytes) else CODEC.encode_event(what)
    return Record("events", partition, offset, b"acme", value, tuple(headers), NOW_MS)


@dataclass
class Broker:
    """Takes records; reports them when the test says so, or at once. It `dies` when so many have been written."""

    written: list[Outgoing] = field(default_factory=list)
    waiting: list[tuple[Outgoing, asyncio.Future[Report]]] = field(default_factory=list)
    durable: list[Outgoing] = field(default_factory=list)
    holds: frozenset[str] = frozenset()
    dies: int | None = None
    unreported_bytes: int = 0

    def publish(self, record: Outgoing) -> asyncio.Future[Report]:
        """Reported at once, unless its topic is held."""
        report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        if self.dead:
            return report
        self.written.append(record)
        self.waiting.append((record, report))
        if record.topic not in self.holds:
            self.report()
        return report

    def report(self) -> None:
        """All that is not held is durable."""
        for record, report in self.waiting:
            if record.topic not in self.holds and not report.done():
                self.durable.append(record)
                report.set_result(Report(len(self.durable), 0))
        self.waiting = [(record, report) for record, report in self.waiting if not report.done()]

    @property
    def dead(self) -> bool:
        """Whether what writes to it is dead by now: nothing comes of what it does."""
        return self.dies is not None and len(self.written) >= self.dies

    async def room(self) -> None:
        """Always."""


@dataclass
class View:
    """The views, as new as what is durable."""

    broker: Broker
    rows: dict[tuple[str, str], bytes] = field(default_factory=dict)
    watchers: list[Callable[[str, str], None]] = field(default_factory=list)

    def put(self, topic: str, key: str, value: bytes) -> None:
        """A record has come."""
        self.rows[topic, key] = value
        for changed in self.watchers:
            changed(topic, key)

    def get(self, topic: str, key: str) -> bytes | None:
        """The newest."""
        if topic == REPLAY_PROGRESS:
            found = [one.value for one in self.broker.durable if one.topic == topic and one.key == key.encode()]
            return found[-1] if found else None
        return self.rows.get((topic, key))

    def keys(self, topic: str, group: str | None = None) -> Iterator[str]:
        """All, or a tenant's."""
        every = [key for of, key in self.rows if of == topic]
        return iter([key for key in every if group is None or key.partition("/")[0] == group])

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call it after every change."""
        self.watchers.append(changed)

    def offset(self, _topic: str) -> int:
        """Of the subscriptions."""
        return 7

    async def ends(self) -> dict[tuple[str, int], int]:
        """They are always new enough."""
        return {}

    async def caught_up(self, _ends: object) -> None:
        """At once."""


@dataclass
class Reading:
    """A window's records in memory, partition after partition."""

    records: Sequence[Record]
    spans: Sequence[Span]
    gone: int = 0
    next: dict[int, int] = field(default_factory=dict)
    hangs: bool = False
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next = {span.partition: span.start for span in self.spans}

    @property
    def over(self) -> bool:
        """Whether all has been given out."""
        return all(self.next[span.partition] >= span.end for span in self.spans)

    async def read(self, _limit: int, _wait_s: float) -> list[Record]:
        """A few, so that there are several batches."""
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        for span in self.spans:
            if (at := self.next[span.partition]) < span.end:
                until = min(at + 4, span.end)
                self.next[span.partition] = until
                if self.trouble:
                    raise Unreachable(self.trouble.pop())
                return [one for one in self.records if one.partition == span.partition and at <= one.offset < until]
        return []


@dataclass
class World:
    """One process after the other over the same topics. `world.run(order)` gives it an order as the feed would."""

    records: list[Record]
    webhooks: tuple[str, ...] = ("wh_1",)
    broker: Broker = field(default_factory=Broker)
    held: str | None = None
    gone: int = 0
    hangs: bool = False
    known: dict[str, dict[str, tuple[Status, ...]]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    readers: list[Sequence[Span]] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.view = View(self.broker)
        tenant = Tenant("acme", "Acme", "standard")
        self.view.put(TENANTS, "acme", CODEC.encode_tenant(tenant))
        for webhook in self.webhooks:
            self.subscribe(webhook)
        self.restart()

    def subscribe(self, webhook: str, **more: Any) -> None:
        """A webhook that wants everything."""
        made = Subscription("acme", webhook, "https://example.com/hook", ("*",), Auth("none"))
        self.view.put(SUBSCRIPTIONS, f"acme/{webhook}", CODEC.encode_subscription(replace(made, **more)))

    def shown(self, webhook: str, until_ms: int) -> None:
        """The sender shows an open breaker."""
        state = EndpointState(
            "acme", webhook, 1, breaker_until_ms=until_ms, capacity=100.0, time_ms=int(time.time() * 1000)
        )
        self.view.put(ENDPOINT_STATE, f"acme/{webhook}", CODEC.encode_endpoint_state(state))

    def restart(self) -> None:
        """Another process; the records that it was given are read again."""
        self.offsets, self.number = Offsets(), 0
        table, codec = cast("Any", self.view), CODEC
        self.subscribers = ViewSubscribers(table, codec)
        paces = Paces(table, self.subscribers.states, codec, lambda: time.time() * 1000)
        self.parts = Parts(cast("Any", self.broker), paces, lambda: self.held)
        self.jobs = Jobs(codec, table, cast("Any", self.broker), self._learn, lambda: NOW_MS, self._job)
        learn = Learning(cast("Any", self))
        self.doing = Doing(self.jobs, cast("Any", self.broker), learn, self.faults.append, 1)

    async def learn(self, _values: object) -> None:
        """Every schema is known."""

    async def _learn(self, _values: object) -> None: ...

    async def _learn_matching(self, _values: object) -> None:
        self.meanwhile()

    async def give(self, order: Replay | None, key: str = "rpl_1", raw: bytes | None = None) -> None:
        """The feed has read this record, which is the newest of its key."""
        value = raw if order is None else CODEC.encode_replay(order)
        if value is not None:
            self.view.put(REPLAYS, key, value)
        await self.read(value, key)

    async def read(self, value: bytes | None, key: str = "rpl_1") -> None:
        """The feed has read this record."""
        record = Record(REPLAYS, 0, self.number, key.encode(), value, (), NOW_MS)
        self.number += 1
        self.offsets.see(record.offset)
        await self.doing(Batch([(record, self.offsets)], {}))

    async def until(self, so: Callable[[], bool], what: str = "") -> None:
        """Return as soon as it is so."""
        until = time.monotonic() + PATIENCE_S
        while not so():
            assert not self.faults, self.faults
            assert time.monotonic() < until, f"not so: {what or self.progress}"
            await asyncio.sleep(0.005)

    async def ended(self) -> None:
        """Nothing is under way any more."""
        await self.until(lambda: not self.doing.tasks, "ended")

    async def kill(self) -> None:
        """The process ends where it stands; what the broker has not reported may be lost or not: here it is."""
        for task in [*self.doing.tasks.values(), *(task for job in self._made for task in job._tasks.values())]:
            task.cancel()
        await asyncio.gather(*self.doing.tasks.values(), return_exceptions=True)
        self._made.clear()
        self.broker.waiting.clear()
        self.restart()

    _made: list[Job] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        """The last that is durable."""
        raw = self.view.get(REPLAY_PROGRESS, "rpl_1")
        assert raw is not None
        return CODEC.decode_replay_progress(raw)

    @property
    def waiting(self) -> str | None:
        """Why nothing is written, as far as it is told."""
        return self.progress.waiting if self.view.get(REPLAY_PROGRESS, "rpl_1") else None

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Event and webhook of what was written, in order."""
        made = [CODEC.delivery(one.value) for one in self.broker.written if one.topic == TO]
        return [(one.event, one.webhook) for one in made]

    def _job(self, order: Replay, progress: Progress | None, work: Work) -> Job:
        course = Course.of(order, progress, len(order.webhooks) or len(self.webhooks), NOW_MS)
        run = Run(course, work, self.parts, self._opened, partial(self._making, course))
        error = progress.error if progress else None
        self._made.append(job := Job(run, CODEC, lambda: NOW_MS, self._ready, error, self._settled))
        return job

    async def _ready(self) -> str | None:
        return self.lacking.pop() if self.lacking else None

    async def _settled(self) -> str | None:
        return self.unsettled[-1] if self.unsettled else None

    @asynccontextmanager
    async def _opened(self, spans: Sequence[Span]) -> Any:
        self.readers.append(spans)
        yield Reading(self.records, spans, self.gone, hangs=self.hangs, trouble=self.trouble)

    def _making(self, course: Course, shares: frozenset[int]) -> Making:
        order = course.order
        chosen = Chosen(
            self.subscribers,
            frozenset(order.webhooks) or None,
            lambda path: share_of(path, course.shares) in shares,
        )
        router = Router(CODEC, chosen, UNDERTAKER, TO, order.id)
        return Matching(order, CODEC, router, self._learn_matching, self._outcomes)

    async def _outcomes(self, _tenant: str, events: Collection[str]) -> Iterable[tuple[str, str, Collection[Status]]]:
        return [(one, webhook, statuses) for one in events for webhook, statuses in self.known.get(one, {}).items()]


def window(count: int = 10) -> list[Record]:
    """So many events in each of two partitions, every one another."""
    return [
        written(partition, offset, event(partition * 100 + offset)) for partition in (0, 1) for offset in range(count)
    ]


def every(webhooks: Iterable[str] = ("wh_1",), count: int = 10) -> set[tuple[str, str]]:
    """What is to come of that window."""
    return {(f"evt-{part * 100 + n}", webhook) for webhook in webhooks for part in (0, 1) for n in range(count)}
