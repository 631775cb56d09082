"""Replayers on a broker: killed, given and taken partitions, told to leave."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from pipeline.cli._stages import GRACE_S
from pipeline.cli._wiring import Place, Wired, replayer
from pipeline.flow.event import Event
from pipeline.flow.replay import Ordered, Progress, Replay, Span, State
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka import topics
from pipeline.kafka.codec import Codec
from pipeline.settings import Settings
from tests.e2e import stages
from tests.kafka.live import eventually
from tests.leashed import leashed
from tests.live_cluster import LiveCluster
from tests.prepared import prepared

pytestmark = [pytest.mark.kafka, pytest.mark.replay]
EVENTS, PARTITIONS, WITHIN_S = 240, 4, 40.0
NOWHERE = "http://127.0.0.1:9/hook"


@dataclass
class World:
    """A tenant with a past on Kafka, and what replays make of it. Only an endpoint of a replay alone wants it."""

    settings: Settings
    codec: Codec
    folder: Path
    tenant: str = field(default_factory=lambda: f"past-{secrets.token_hex(4)}")
    window: tuple[Span, ...] = ()
    orders: list[Replay] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers, "linger.ms": 5})
        self.reader = Consumer({"bootstrap.servers": self.settings.bootstrap_servers, "group.id": "tests-replayer"})
        self.starts = {
            (topic, number): self.reader.get_watermark_offsets(TopicPartition(topic, number))[1]
            for topic in (topics.DELIVERIES_REPLAY, topics.REPLAY_PROGRESS)
            for number in range(PARTITIONS)
        }
        self.write(topics.TENANTS, self.tenant, self.codec.encode_tenant(Tenant(self.tenant, "Past", "standard")))

    def happen(self) -> None:
        """The events, evenly over the partitions."""
        at = {
            number: self.reader.get_watermark_offsets(TopicPartition(topics.EVENTS, number))[1] for number in range(4)
        }
        for number in range(EVENTS):
            event = Event(f"e{number}", self.tenant, "order.paid", int(time.time() * 1000), "{}")
            self.write(topics.EVENTS, self.tenant, self.codec.encode_event(event), number % PARTITIONS)
        self.producer.flush(WITHIN_S)
        self.window = tuple(Span(number, start, start + EVENTS // PARTITIONS) for number, start in at.items())

    def write(self, topic: str, key: str, value: bytes | None, partition: int = -1) -> None:
        """As anyone."""
        self.producer.produce(topic, value, key, partition)

    def order(self, rate: float) -> Replay:
        """A replay of all of it to an endpoint of its own."""
        name = f"rpl_{secrets.token_hex(11)}"
        hook = Subscription(self.tenant, f"wh_{secrets.token_hex(6)}", NOWHERE, ("*",), Auth("none"), replay=name)
        self.write(topics.SUBSCRIPTIONS, hook.path, self.codec.encode_subscription(hook))
        self.producer.flush(WITHIN_S)
        made = Replay(
            name,
            self.tenant,
            Ordered.RUNNING,
            self.window,
            webhooks=(hook.webhook,),
            target_url=NOWHERE,
            rate=rate,
            created_ms=int(time.time() * 1000),
        )
        self.say(made)
        self.orders.append(made)
        return made

    def say(self, order: Replay) -> None:
        """As the API would."""
        self.write(topics.REPLAYS, order.id, self.codec.encode_replay(order))
        self.producer.flush(WITHIN_S)

    def read(self, topic: str) -> list[bytes]:
        """All that has been written to the topic since the beginning."""
        starts = {number: self.starts[topic, number] for number in range(PARTITIONS)}
        ends = {n: self.reader.get_watermark_offsets(TopicPartition(topic, n))[1] for n in range(PARTITIONS)}
        left = {number for number, start in starts.items() if start < ends[number]}
        self.reader.assign([TopicPartition(topic, number, starts[number]) for number in left])
        found = []
        while left:
            message = self.reader.poll(1)
            if message is not None and message.error() is None:
                found.append(message.value() or b"")
                if (message.offset() or 0) + 1 >= ends[message.partition() or 0]:
                    left.discard(message.partition() or 0)
        return found

    async def sent(self) -> dict[str, Counter[str]]:
        """By replay the events that were written for it, each so often."""
        found: dict[str, Counter[str]] = {order.id: Counter() for order in self.orders}
        for value in await asyncio.to_thread(self.read, topics.DELIVERIES_REPLAY):
            made = self.codec.delivery(value)
            if made.replay in found:
                found[made.replay][made.event] += 1
        return found

    async def progress(self) -> dict[str, Progress]:
        """The last that was written of each of these replays: others' orders, left unfinished, go on beside them."""
        values, mine = await asyncio.to_thread(self.read, topics.REPLAY_PROGRESS), {order.id for order in self.orders}
        return {one.id: one for one in map(self.codec.decode_replay_progress, values) if one.id in mine}

    async def until(self, so: Callable[[dict[str, Progress]], bool], what: str) -> None:
        """Look at what replays say until it is so."""
        until = time.monotonic() + WITHIN_S
        while not so(told := await self.progress()):
            assert time.monotonic() < until, f"{what}: {told}"
            await asyncio.sleep(0.1)

    def variables(self, **more: str) -> Mapping[str, str]:
        """The environment of a replayer's process."""
        return {
            "PIPELINE_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "PIPELINE_SCHEMA_REGISTRY": self.settings.schema_registry,
            "PIPELINE_DATA_DIR": str(self.folder),
            "PIPELINE_INSTANCE_ID": "replays",
            **more,
        }

    def killed(self, place: str) -> None:
        """A replayer's process, until it has killed itself there."""
        dying = stages.bare(self.variables(PIPELINE_FAULTS="1", PIPELINE_FAIL_AT=place), self.folder)
        name = place.partition("/")[0]
        with leashed(name, stages.command("run", "replayer"), self.folder, dying) as child:
            assert child.process.wait(WITHIN_S) == -signal.SIGKILL, child.last_words(20)

    @asynccontextmanager
    async def replayer(self, slot: int = 0) -> AsyncIterator[Wired]:
        """A replayer in this process, as a member of its own; at the end it drains and leaves."""
        settings = replace(self.settings, data_dir=self.folder / str(slot))
        settings.data_dir.mkdir()
        async with replayer(Place(settings, f"replayer-replays-{slot}", None, CollectorRegistry())) as wired:
            beside = [asyncio.create_task(one) for one in wired.beside]
            await wired.stage.start()
            try:
                yield wired
            finally:
                drained = await wired.stage.stop(GRACE_S)
                for task in beside:
                    task.cancel()
            assert drained
            assert not wired.stage.failed.done()


@pytest.fixture
def world(cluster: LiveCluster, tmp_path: Path) -> Iterator[World]:
    settings = prepared(cluster)
    with closing(asyncio.run(Codec.open(settings))) as codec:
        world = World(settings, codec, tmp_path)
        world.happen()
        yield world
        for order in world.orders:  # so that no later sender tries what they have written
            world.say(replace(order, ordered=Ordered.CANCELLED, updated_ms=int(time.time() * 1000)))
        world.reader.close()


async def test_a_killed_replayer_leaves_no_gap(world: World) -> None:
    """Killed after a report, and after a progress is written: the next one has missed nothing.

    What comes twice is what had not been noted; the counts are those of the window all the same.
    """
    order = world.order(rate=400)
    for place in ("after-report/deliveries-replay:40", "after-report/replay-progress:2"):
        await asyncio.to_thread(world.killed, place)
    async with world.replayer():
        await world.until(lambda told: order.id in told and told[order.id].state is State.DONE, "done")
    sent, told = (await world.sent())[order.id], (await world.progress())[order.id]
    assert len(sent) == EVENTS
    assert (told.events, told.deliveries, told.unreadable) == (EVENTS, EVENTS, 0)
    assert sent.total() - EVENTS < 400


async def test_what_changes_hands_goes_on_where_it_was(world: World) -> None:
    """A replayer comes and the first one leaves while replays are at work: each delivery is written exactly once."""
    orders = [world.order(rate=30) for _ in range(6)]
    async with world.replayer(1) as last:
        async with world.replayer(0) as first:
            await world.until(lambda told: len(told) == len(orders), "begun")
            held = [one.stage.feed.tracker.partitions for one in (first, last)]
            await eventually(lambda: [len(one) for one in held] == [2, 2], "shared")
        assert State.RUNNING in {one.state for one in (await world.progress()).values()}, "under way when it left"
        await world.until(lambda told: {one.state for one in told.values()} == {State.DONE}, "done")
    assert await world.sent() == {order.id: Counter({f"e{n}": 1 for n in range(EVENTS)}) for order in orders}
    assert {one.deliveries for one in (await world.progress()).values()} == {EVENTS}
