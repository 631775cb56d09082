"""The wiring of the stages: which parts each role is made of. Nothing is decided here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from pipeline.cli._logs import log_attempt
from pipeline.errors import UsageError
from pipeline.faults import Faults
from pipeline.flow.deliver import Attempt
from pipeline.flow.health import HealthRule
from pipeline.flow.retry import Ladder
from pipeline.flow.throttle import Throttle
from pipeline.http.client import DeliveryClient
from pipeline.http.metrics import AttemptMeter
from pipeline.kafka import starts, topics
from pipeline.kafka.age import Unread
from pipeline.kafka.behind import Behind
from pipeline.kafka.cancels import Cancels
from pipeline.kafka.clock import BrokerClock, tick
from pipeline.kafka.codec import Codec
from pipeline.kafka.delay import Holding
from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.metrics import Missed, count_recorded, count_replays, count_unreadable, show_throttle
from pipeline.kafka.places import Places
from pipeline.kafka.pressure import Waits, listen
from pipeline.kafka.processing import Deciding, Doing, Learning, Recording
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.replays import CancelledReplays
from pipeline.kafka.source import GATHERING, SHORT_FETCHES
from pipeline.kafka.stage import Stage
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.table import Table
from pipeline.kafka.takeover import AttemptLog, TakingOver
from pipeline.kafka.trials import WebhookTests
from pipeline.kafka.trimming import Trimming
from pipeline.settings import Settings
from pipeline.store.living import LivingTenants, forgetting
from pipeline.store.sealing import Sealing
from pipeline.store.secrets import Vault
from pipeline.store.targets import ViewTargets
from pipeline.workers.dead import Undertaker
from pipeline.workers.delay import Delay
from pipeline.workers.endpoints import Endpoints
from pipeline.workers.handover import HandOver
from pipeline.workers.mortal import mortal
from pipeline.workers.recorder import Projection
from pipeline.workers.repeats import Repeats
from pipeline.workers.retention import Retention, days_of
from pipeline.workers.router import Router
from pipeline.workers.sender import Sender

AT_ONCE = 400
"""Requests that a sender has under way at the same time: with answers after 50 ms, twice what a core sends."""
_SHARE = AT_ONCE * 3 // 4
"""Records of one partition that a sender works on at the same time: one whose endpoints hang leaves room for others."""
_ATTEMPTS_LINGER_MS = 20
"""Nobody waits for an attempt's record: larger batches spare the broker and the sender most of their requests."""
_REPLAYED_LINGER_MS = 20
"""Written one by one, replayed deliveries took half as much again of every process that they pass, and the broker."""
_VIEW, _FOLLOWED = (topics.SUBSCRIPTIONS, topics.TENANTS), (topics.ENDPOINT_STATE,)


@dataclass(frozen=True, slots=True)
class Wired:
    """A role, wired: its stage, its publisher, what runs beside it, why it may not be ready, what it warns of.

    A role that writes to no topic has no publisher.

    `startable` says whether a record that waits could start now.
    """

    stage: Stage
    publisher: Publisher | None
    waiting: Callable[[], str | None]
    beside: tuple[Coroutine[Any, Any, None], ...] = ()
    warning: Callable[[], str | None] = lambda: None
    startable: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a role runs: its settings, its instance id, where a group without offsets is to start, its metrics.

    A router may work for a `group` of the operator's and write `to` another topic than it does for the flow.
    """

    settings: Settings
    instance: str
    start: str | None
    metrics: CollectorRegistry
    group: str = ""
    to: str = ""

    async def source(self, role: str, names: tuple[str, ...], **more: Any) -> Source:
        """What the role's feed reads. Raises `UsageError` when its group has no offsets."""
        group = self.group or f"pipeline-{role}"
        await asyncio.to_thread(starts.ensure, self.settings, group, names, self.start)
        return Source(group, self.instance, **{"topics": names, **more})


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
    """What every stage has. Raises `UsageError` when a topic that it writes (or must have) is not there."""
    await asyncio.to_thread(starts.require, settings, writes)
    with closing(await Codec.open(settings)) as codec:
        yield codec, Publisher(settings, linger_ms=linger_ms)


@asynccontextmanager
async def router(place: Place) -> AsyncIterator[Wired]:
    """`events` in, `deliveries` out, or what else it is told to write to. Raises `UsageError` for a wrong one."""
    settings, to = place.settings, place.to or topics.DELIVERIES
    if to not in topics.ROUTED and topics.known(settings, [to]):
        raise UsageError(f"--to {to}: a router writes to {' or '.join(topics.ROUTED)}, or to a topic of your own")
    writes = (to, topics.DEAD_LETTERS)
    async with _opened(settings, writes) as (codec, publisher), Table(settings, _VIEW, _FOLLOWED) as table:
        subscribers = ViewSubscribers(table, codec)
        worker = Router(codec, subscribers, Undertaker(codec, now_ms), topic=to)
        learn = Learning(codec, lambda: table.heads)

        async def caught_up(batch: Batch) -> None:
            await table.caught_up(batch.ends)

        def process(fail: Callable[[BaseException], None]) -> Deciding:
            return Deciding(worker, publisher, learn, caught_up, fail)

        source = await place.source("router", (topics.EVENTS,), ask=table.ask_ends)
        stage, unread = Stage(settings, source, process), Unread(settings)
        count_unreadable(place.metrics, lambda: len(subscribers.unreadable))
        warning = lambda: subscribers.warning or unread.warning  # noqa: E731
        yield Wired(stage, publisher, lambda: learn.waiting, (unread.run(),), warning)


@asynccontextmanager
async def sender(place: Place) -> AsyncIterator[Wired]:
    """`deliveries` in, requests out, `attempts`, tiers and dead letters as they end."""
    settings, ladder = place.settings, Ladder.parse(place.settings.ladder)
    vault = Vault(settings.keys())
    tiers = (tier.topic for tier in ladder.tiers)
    writes = (topics.ATTEMPTS, topics.DEAD_LETTERS, topics.ENDPOINT_STATE, topics.EVENTS, topics.CLOCK, *tiers)
    client = DeliveryClient.of(settings)
    opened, repeats = _opened(settings, writes, linger_ms=_ATTEMPTS_LINGER_MS), Repeats()
    async with (
        aclosing(client),
        opened as (codec, publisher),
        Table(settings, _VIEW, (*_FOLLOWED, topics.CANCELS, topics.WEBHOOK_TESTS, topics.REPLAYS)) as table,
        AttemptLog(settings, codec) as attempts,
    ):
        clock, targets = BrokerClock(), ViewTargets(table, codec, vault)
        waits = Waits(lambda: _time_ms(clock), lambda: stage.feed.tracker.waiting() is not None)
        sealing = Sealing(table, codec, vault)
        endpoints = _endpoints(settings, (codec, publisher), table, targets, clock)
        taking = TakingOver(attempts, repeats, lambda: len(stage.feed.tracker.partitions), endpoints.refresh)
        hand_over = HandOver(publisher, repeats, ladder)
        worker = Sender(
            codec,
            targets,
            mortal(client, Faults.of(settings)),
            publisher,
            Undertaker(codec, now_ms),
            repeats,
            ladder,
            endpoints,
            now_ms,
            random.random,
            _told(AttemptMeter(place.metrics)),
            taking.catch_up,
            Cancels(table, codec),
            CancelledReplays(table, codec),
            waits.took_up,
        )
        learn = Learning(codec, lambda: table.heads)

        def process(fail: Callable[[BaseException], None]) -> Callable[[Batch], Awaitable[None]]:
            return taking.before(Doing(worker, publisher, learn, fail, AT_ONCE, worker.urgent), fail)

        read = {"give_up": hand_over.give_up, "properties": SHORT_FETCHES, "share": _SHARE}
        source = await place.source("sender", (topics.DELIVERIES,), **read)
        stage = Stage(settings, source, process)
        beside = hand_over.run(), endpoints.run(), tick(clock, publisher, waits.says)
        warning = lambda: sealing.warning or targets.states.warning  # noqa: E731
        yield Wired(stage, publisher, lambda: learn.waiting or taking.waiting, beside, warning)


def _endpoints(
    settings: Settings, opened: tuple[Codec, Publisher], table: Table, targets: ViewTargets, clock: BrokerClock
) -> Endpoints:
    """What the sender knows of its endpoints, by the broker's clock as soon as that is known."""
    return Endpoints(
        *opened,
        HealthRule.parse(settings.disable_after, settings.disable_attempts),
        Ladder.parse(settings.ladder),
        clock=lambda: _time_ms(clock),
        stored=lambda webhook: targets.states.of(webhook.path),
        tested=WebhookTests(table, opened[0]).of,
    )


def _time_ms(clock: BrokerClock) -> float:
    """The broker's time; until that is known, ours."""
    return clock.now_ms() if clock.known else now_ms()


@asynccontextmanager
async def delay(place: Place) -> AsyncIterator[Wired]:
    """Every tier that exists in, and what replays have written; the next tier or `deliveries` out."""
    settings, ladder = place.settings, Ladder.parse(place.settings.ladder)
    tiers = (tier.topic for tier in ladder.tiers)
    needs = (topics.DELIVERIES, topics.DELIVERIES_REPLAY, topics.DEAD_LETTERS, topics.CLOCK, *tiers)
    async with _opened(settings, needs, linger_ms=1) as (codec, publisher):
        clock, throttle = BrokerClock(), Throttle(time.monotonic())
        throttled, worker = {topics.DELIVERIES_REPLAY: throttle}, Delay(ladder, Undertaker(codec, now_ms))
        holding = Holding(worker, ladder.tier_wait_ms, publisher, clock, throttled)
        names = (topics.TIERS, topics.DELIVERIES_REPLAY)
        read = {"topics": names, "paused": lambda: holding.paused, "properties": GATHERING}
        source = await place.source("delay", await asyncio.to_thread(topics.unbegun, settings), **read)
        stage = Stage(settings, source, holding.processing)
        trimming = Trimming(settings, clock)
        show_throttle(place.metrics, throttle)
        heard = listen(settings, lambda behind_ms: throttle.heard(behind_ms, time.monotonic()))
        beside = holding.run(), tick(clock, publisher), trimming.run(), heard
        warning = lambda: trimming.warning  # noqa: E731
        yield Wired(stage, publisher, lambda: None, beside, warning, lambda: holding.overdue)


@asynccontextmanager
async def recorder(place: Place) -> AsyncIterator[Wired]:
    """Every event, delivery, attempt, dead letter and change in, the delivery log out."""
    from pipeline.store.log import log_url, open_log  # noqa: PLC0415 - SQLAlchemy, for this role alone

    settings, names = place.settings, topics.GROUPS["pipeline-recorder"]
    days = days_of(settings.log_retention)
    missed, log = Missed(), await asyncio.to_thread(open_log, log_url(settings))
    with closing(log), closing(await Codec.open(settings)) as codec:
        async with Table(settings, (topics.TENANTS,)) as table:
            learn = Learning(codec, lambda: table.heads)
            await learn.schemas_of(())
            tenants = LivingTenants(table, codec, await asyncio.to_thread(log.removed_tenants))
            recording = Recording(Projection(codec, missed), log, learn, tenants)
            source = await place.source("recorder", names, starts=Behind(settings, "pipeline-recorder", log))
            stage = Stage(settings, source, lambda _: recording)
            count_recorded(place.metrics, recording, missed)
            beside = Retention(log, days, now_ms).run(), forgetting(tenants, log, recording.settled)
            yield Wired(stage, None, lambda: learn.waiting or recording.waiting, beside)


@asynccontextmanager
async def replayer(place: Place) -> AsyncIterator[Wired]:
    """Orders of replays in, their deliveries and how far they have come out."""
    from pipeline.api.log.asking import AskedLog  # noqa: PLC0415 - SQLAlchemy, as for the recorder
    from pipeline.cli._replaying import Replayer  # noqa: PLC0415
    from pipeline.store.log import log_url, open_log  # noqa: PLC0415

    settings, writes = place.settings, (topics.DELIVERIES_REPLAY, topics.REPLAY_PROGRESS, topics.DEAD_LETTERS)
    log, views = AskedLog(lambda: open_log(log_url(settings))), (*_VIEW, topics.REPLAYS, topics.REPLAY_PROGRESS)
    opened = _opened(settings, (*writes, topics.CLOCK), linger_ms=_REPLAYED_LINGER_MS)
    table = Table(settings, views, _FOLLOWED)
    async with opened as (codec, publisher), table, Places(settings) as places:
        clock, learn = BrokerClock(), Learning(codec, lambda: table.heads)
        time_ms = partial(_time_ms, clock)
        with closing(log):
            made = Replayer(settings, codec, publisher, table, learn, log, places, now_ms, time_ms)
            source = await place.source("replayer", (topics.REPLAYS,))
            stage = Stage(settings, source, lambda fail: Doing(made.jobs, publisher, learn, fail, AT_ONCE))
            count_replays(place.metrics, made.jobs, made.backlog, made.parts)
            beside = tick(clock, publisher), made.backlog.run()
            yield Wired(stage, publisher, lambda: learn.waiting, beside, lambda: made.subscribers.warning)


WIRINGS: dict[str, Callable[[Place], AbstractAsyncContextManager[Wired]]] = {
    "router": router,
    "sender": sender,
    "delay": delay,
    "recorder": recorder,
    "replayer": replayer,
}
