"""The wiring of the stages: which parts each role is made of. Nothing is decided here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from pipeline.cli._logs import log_attempt
from pipeline.flow.deliver import Attempt
from pipeline.flow.retry import Ladder, topic_span_ms
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from pipeline.http.metrics import AttemptMeter
from pipeline.kafka import starts, topics
from pipeline.kafka.codec import Codec
from pipeline.kafka.delay import Holding
from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.processing import Deciding, Doing, Learning
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.stage import Stage
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.table import Table
from pipeline.settings import Settings
from pipeline.store.secrets import Vault
from pipeline.store.targets import ViewTargets
from pipeline.workers.dead import Undertaker
from pipeline.workers.delay import Delay
from pipeline.workers.repeats import Repeats
from pipeline.workers.router import Router
from pipeline.workers.sender import Sender

AT_ONCE = 224
"""Requests that a sender has under way at the same time."""
_ATTEMPTS_LINGER_MS = 20
"""Nobody waits for an attempt's record: larger batches spare the broker and the sender most of their requests."""
_VIEW = (topics.SUBSCRIPTIONS, topics.TENANTS)


@dataclass(frozen=True, slots=True)
class Wired:
    """A role, wired: its stage, its publisher, what runs beside it, and why it may not be ready."""

    stage: Stage
    publisher: Publisher
    waiting: Callable[[], str | None]
    beside: tuple[Coroutine[Any, Any, None], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a role runs: its settings, its instance id, where a group without offsets is to start, its metrics."""

    settings: Settings
    instance: str
    start: str | None
    metrics: CollectorRegistry

    async def source(self, role: str, names: tuple[str, ...], **more: Any) -> Source:
        """What the role's feed reads. Raises `UsageError` when its group has no offsets."""
        group = f"pipeline-{role}"
        await asyncio.to_thread(starts.ensure, self.settings, group, names, self.start)
        return Source(group, self.instance, names, **more)


def _told(meter: AttemptMeter) -> Callable[[Attempt], None]:
    """Count every attempt and log it."""

    def told(attempt: Attempt) -> None:
        meter(attempt)
        log_attempt(attempt)

    return told


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def _opened(
    settings: Settings, writes: tuple[str, ...], linger_ms: int = 2
) -> AsyncIterator[tuple[Codec, Publisher]]:
    """What every stage has. Raises `UsageError` when a topic that it writes is not there."""
    await asyncio.to_thread(starts.require, settings, writes)
    with closing(await Codec.open(settings)) as codec:
        yield codec, Publisher(settings, linger_ms=linger_ms)


@asynccontextmanager
async def router(place: Place) -> AsyncIterator[Wired]:
    """`events` in, `deliveries` out."""
    settings, writes = place.settings, (topics.DELIVERIES, topics.DEAD_LETTERS)
    async with _opened(settings, writes) as (codec, publisher), Table(settings, _VIEW) as table:
        worker = Router(codec, ViewSubscribers(table, codec), Undertaker(codec, now_ms))
        learn = Learning(codec, lambda: table.heads)

        async def caught_up(batch: Batch) -> None:
            await table.caught_up(batch.ends)

        def process(fail: Callable[[BaseException], None]) -> Deciding:
            return Deciding(worker, publisher, learn, caught_up, fail)

        source = await place.source("router", (topics.EVENTS,), ask=table.ask_ends)
        yield Wired(Stage(settings, source, process), publisher, lambda: learn.waiting)


@asynccontextmanager
async def sender(place: Place) -> AsyncIterator[Wired]:
    """`deliveries` in, requests out, `attempts`, tiers and dead letters as they end."""
    settings, ladder = place.settings, Ladder.parse(place.settings.ladder)
    vault = Vault(settings.keys())
    writes = (topics.ATTEMPTS, topics.DEAD_LETTERS, *(tier.topic for tier in ladder.tiers))
    policy = EgressPolicy.parse(settings.egress_allow, https_required=not settings.egress_http)
    client = DeliveryClient(policy, ca_file=settings.egress_ca, proxy=settings.egress_proxy)
    opened = _opened(settings, writes, linger_ms=_ATTEMPTS_LINGER_MS)
    async with aclosing(client), opened as (codec, publisher), Table(settings, _VIEW) as table:
        worker = Sender(
            codec,
            ViewTargets(table, codec, vault),
            client,
            publisher,
            Undertaker(codec, now_ms),
            Repeats(),
            ladder,
            now_ms,
            random.random,
            _told(AttemptMeter(place.metrics)),
        )
        learn = Learning(codec, lambda: table.heads)

        def process(fail: Callable[[BaseException], None]) -> Doing:
            return Doing(worker, publisher, learn, fail, AT_ONCE)

        source = await place.source("sender", (topics.DELIVERIES,))
        yield Wired(Stage(settings, source, process), publisher, lambda: learn.waiting)


@asynccontextmanager
async def delay(place: Place) -> AsyncIterator[Wired]:
    """Every tier that exists in, the next tier or `deliveries` out."""
    settings, ladder = place.settings, Ladder.parse(place.settings.ladder)
    admin = await asyncio.to_thread(topics.admin, settings)
    names = topics.delayed(await asyncio.to_thread(topics.existing, admin))
    waits = {name: topic_span_ms(name) or 0 for name in names} | {tier.topic: tier.wait_ms for tier in ladder.tiers}
    writes = (topics.DELIVERIES, topics.DEAD_LETTERS, topics.CLOCK, *(tier.topic for tier in ladder.tiers))
    async with _opened(settings, writes, linger_ms=1) as (codec, publisher):
        holding = Holding(Delay(ladder, Undertaker(codec, now_ms)), waits, publisher)
        source = await place.source("delay", names, paused=lambda: holding.paused)
        stage = Stage(settings, source, holding.processing)
        yield Wired(stage, publisher, lambda: None, (holding.run(), holding.tick()))


WIRINGS: dict[str, Callable[[Place], AbstractAsyncContextManager[Wired]]] = {
    "router": router,
    "sender": sender,
    "delay": delay,
}
