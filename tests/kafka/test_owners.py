"""Two senders, one after the other or together, on real topics: who owns a partition, and what the other left."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from pipeline.flow.deliver import Answers, Attempt, Carriage, Delivery, Outcome, Retry, Verdict
from pipeline.flow.retry import Ladder, Tier
from pipeline.kafka import feed as feeds
from pipeline.kafka import schemas, takeover
from pipeline.kafka.codec import Codec
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.processing import Doing, Fail, Learning
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.source import Source
from pipeline.kafka.stage import Process, Stage
from pipeline.kafka.takeover import AttemptLog, TakingOver
from pipeline.kafka.tracker import Partition
from pipeline.ports import Outgoing
from pipeline.profiles import PROFILES
from pipeline.settings import Settings
from pipeline.workers import sender as senders
from pipeline.workers.carriage import of_headers, to_headers
from pipeline.workers.dead import Undertaker
from pipeline.workers.endpoints import Endpoints
from pipeline.workers.handover import HandOver
from pipeline.workers.repeats import Made, Repeats
from pipeline.workers.sender import Sender
from tests.kafka.live import (
    PATIENCE_S,
    consume,
    eventually,
    headers_of,
    new_topic,
    producing,
    settings_of,
)
from tests.live_cluster import LiveCluster
from tests.workers.parts import DELIVERY, HEALTH, NO_CARRIAGE, NOW_MS, Endpoint, Known, answer, roomy, target

HERE = Answers(0, 40)


@dataclass(frozen=True)
class Place:
    """Topics of the test's own, and a group."""

    settings: Settings
    codec: Codec
    deliveries: str
    attempts: str
    tier: str
    group: str = field(default_factory=lambda: f"tests-owners-{uuid.uuid4()}")

    @property
    def ladder(self) -> Ladder:
        """One tier."""
        return Ladder((Tier(self.tier, 5_000),))

    def deliver(
        self, *numbers: int, partition: int = 0, carriage: Carriage = NO_CARRIAGE, delivery: Delivery = DELIVERY
    ) -> None:
        """Write these deliveries."""
        producer, headers = producing(self.settings), to_headers(carriage)
        for number in numbers:
            value = self.codec.encode_delivery(replace(delivery, id=f"msg_{number}"))
            producer.produce(self.deliveries, value, b"acme/wh_1", partition, headers=list(headers))
        assert producer.flush(PATIENCE_S) == 0

    def bring_back(self, carrier: Message, partition: int = 0) -> None:
        """Write a carrier to `deliveries`, as the delay role does when it has waited."""
        carriage = of_headers(headers_of(carrier))
        delivery = self.codec.delivery(carrier.value())
        number = int(delivery.id.removeprefix("msg_"))
        carriage = replace(carriage, hop=carriage.hop + 1, wait_ms=0)
        self.deliver(number, partition=partition, carriage=carriage, delivery=delivery)

    async def there(self, topic: str, count: int) -> list[Message]:
        """The records of a topic, once there are so many."""
        return await asyncio.to_thread(consume, self.settings, topic, count)

    async def attempted(self, count: int) -> list[Attempt]:
        """The attempts, once there are so many."""
        return [self.codec.attempt(message.value()) for message in await self.there(self.attempts, count)]

    async def until_committed(self, offset: int, partition: int = 0) -> None:
        """Wait until the group is there."""
        await asyncio.to_thread(self._until_committed, offset, (self.deliveries, partition))

    def _until_committed(self, offset: int, partition: Partition) -> None:
        until = time.monotonic() + PATIENCE_S
        with offsets_of(self.settings, self.group) as offsets:
            while (found := offsets.committed([partition]).get(partition, 0)) != offset:
                assert time.monotonic() < until, f"{found} is committed, not {offset}"


@dataclass
class Owner:
    """A sender as a stage, and its endpoint."""

    stage: Stage
    endpoint: Endpoint
    repeats: Repeats
    taking: TakingOver
    running: bool = False

    async def start(self) -> None:
        """Join the group."""
        self.running = True
        await self.stage.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """As on SIGTERM."""
        if self.running:
            self.running = False
            await self.stage.stop(grace_s)

    async def die(self) -> None:
        """Nothing is committed any more, and no effect is written."""
        self.stage.fail(RuntimeError("dies"))
        await self.stop()

    async def asked(self, count: int) -> None:
        """Wait until so many requests were made."""
        await eventually(lambda: len(self.endpoint.requests) >= count, f"{count} requests")


class Forgetful(Publisher):
    """A process that dies between an attempt and its effect: only attempts get out."""

    def publish(self, record: Outgoing) -> Any:
        """Effects are handed over and never written."""
        attempt = record.partition is not None
        return super().publish(record) if attempt else asyncio.get_running_loop().create_future()


@pytest.fixture
async def place(cluster: LiveCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    settings = settings_of(cluster, tmp_path)
    await asyncio.to_thread(schemas.register, settings)
    deliveries, attempts, tier = (new_topic(settings, 2) for _ in range(3))
    for module in (senders, takeover):
        monkeypatch.setattr(module, "ATTEMPTS", attempts)
    monkeypatch.setattr(feeds, "_COMMIT_S", 0.05)
    monkeypatch.setattr(feeds, "GIVE_UP_S", 0.05)
    codec = await Codec.open(settings)
    yield Place(settings, codec, deliveries, attempts, tier)
    codec.close()


@asynccontextmanager
async def owning(
    place: Place,
    *outcomes: Outcome,
    instance: str = "one",
    publishes: type[Publisher] = Publisher,
    started: bool = True,
) -> AsyncIterator[Owner]:
    """A sender in the place's group."""
    endpoint, repeats = Endpoint(list(outcomes) or [answer(200)], []), Repeats()
    endpoint.gate.set()
    publisher = publishes(place.settings, linger_ms=0)
    undertaker, told = Undertaker(place.codec, lambda: NOW_MS), list[Attempt]().append
    async with AsyncExitStack() as stack:
        stack.push_async_callback(publisher.close, 1.0)
        log = await stack.enter_async_context(AttemptLog(place.settings, place.codec))
        taking = TakingOver(log, repeats, lambda: 1)
        hand_over = HandOver(publisher, repeats, place.ladder)
        webhook = target(PROFILES["inspectorio"])
        targets = Known([], {"acme/wh_1": webhook})
        endpoints = Endpoints(place.codec, publisher, HEALTH, place.ladder, clock=lambda: NOW_MS, stored=lambda _: None)
        roomy(endpoints, webhook.subscription)
        ports = (place.codec, targets, endpoint, publisher, undertaker, repeats, place.ladder, endpoints)
        worker = Sender(*ports, lambda: NOW_MS, lambda: 0.0, told, taking.catch_up)

        def process(fail: Fail) -> Process:
            return taking.before(Doing(worker, publisher, Learning(place.codec), fail, 200), fail)

        source = Source(place.group, instance, (place.deliveries,), give_up=hand_over.give_up)
        owner = Owner(Stage(place.settings, source, process), endpoint, repeats, taking)
        if started:
            await owner.start()
        try:
            yield owner
        finally:
            await owner.stop()


async def test_a_new_owner_sends_nothing_twice(place: Place) -> None:
    """Attempts that a dead owner wrote and did not commit are not made again, and what follows them is carried out."""
    place.deliver(*range(20))
    async with owning(place, answer(500), publishes=Forgetful) as old:
        await old.asked(20)
        await place.attempted(20)
        await old.die()
    await place.until_committed(0)
    async with owning(place) as new:
        await place.until_committed(20)
        retries = [place.codec.delivery(message.value()) for message in await place.there(place.tier, 20)]
        assert new.endpoint.requests == []
    assert sorted(retry.id for retry in retries) == sorted(f"msg_{number}" for number in range(20))
    assert {retry.attempt for retry in retries} == {2}


async def test_what_was_not_attempted_is_sent(place: Place) -> None:
    """Of what a dead owner had in flight, the new one sends exactly what has no attempt."""
    place.deliver(0, 1)
    async with owning(place) as old:
        await old.asked(2)
        await place.attempted(2)
        old.endpoint.gate.clear()
        place.deliver(2, 3)
        await old.asked(4)
        await old.die()
    async with owning(place) as new:
        await place.until_committed(4)
        sent = sorted(dict(request.headers)["webhook-id"] for request in new.endpoint.requests)
    assert sent == ["msg_2", "msg_3"]


async def test_a_repeat_of_what_another_owner_sent_is_dropped(place: Place) -> None:
    """A second writing of a delivery that was sent and committed long ago is known from the log of attempts."""
    place.deliver(0, 1, 2)
    async with owning(place) as old:
        await old.asked(3)
        await place.until_committed(3)
        await old.stop()
    place.deliver(1, 3)
    async with owning(place) as new:
        await place.until_committed(5)
        sent = [dict(request.headers)["webhook-id"] for request in new.endpoint.requests]
    assert sent == ["msg_3"]


async def test_a_drain_hands_over_what_outlasts_it(place: Place) -> None:
    """After the grace a request is handed over, its offset committed, and the carrier does what its attempt says."""
    place.deliver(0)
    async with owning(place, answer(500)) as old, owning(place, started=False) as new:
        old.endpoint.gate.clear()
        await old.asked(1)
        await old.stop()
        await place.until_committed(1)
        (carrier,) = await place.there(place.tier, 1)
        await new.start()
        await eventually(lambda: new.stage.feed.joined)
        place.deliver(1)
        await new.asked(1)
        old.endpoint.gate.set()
        await place.attempted(2)
        place.bring_back(carrier)
        await place.until_committed(3)
        (_, retry) = await place.there(place.tier, 2)
        assert place.codec.delivery(retry.value()).attempt == 2
        assert [dict(request.headers)["webhook-id"] for request in new.endpoint.requests] == ["msg_1"]


async def test_a_rebalance_hands_over_what_outlasts_it(place: Place) -> None:
    """A partition that moves leaves its request behind; the new owner gets the carrier, waits, and sends nothing."""
    for number in (0, 1):
        place.deliver(number, partition=number)
    async with owning(place, answer(500)) as old:
        old.endpoint.gate.clear()
        await old.asked(2)
        async with owning(place, instance="two") as new:
            (carrier,) = await place.there(place.tier, 1)
            moved = int(place.codec.delivery(carrier.value()).id.removeprefix("msg_"))
            await eventually(lambda: (place.deliveries, moved) in new.stage.feed.tracker.partitions)
            await place.until_committed(1, moved)
            old.endpoint.gate.set()
            await place.attempted(2)
            place.bring_back(carrier, moved)
            await place.until_committed(2, moved)
            assert new.endpoint.requests == []
            retries = [place.codec.delivery(message.value()) for message in await place.there(place.tier, 3)]
    assert {(retry.id, retry.attempt) for retry in retries} == {(f"msg_{moved}", 1), ("msg_0", 2), ("msg_1", 2)}


async def test_the_log_is_read_past_holes(place: Place) -> None:
    """Stretches that hold aborted records, transaction markers or what is no attempt are read to their end."""
    attempt = Attempt(
        "msg_1",
        "r",
        3,
        "e",
        "acme",
        "wh_1",
        "t",
        2,
        NOW_MS,
        1,
        Verdict.REJECTED,
        500,
        (),
        (),
        b"",
        Retry(7),
        Answers(0, 40),
    )
    value = place.codec.encode_attempt(attempt)
    producer = producing(place.settings, transactional_id=place.group)
    producer.init_transactions(PATIENCE_S)
    for keep in (True, False, True, False):
        producer.begin_transaction()
        for written in (value, b"no attempt", None):
            producer.produce(place.attempts, written, None, 0)
        assert producer.flush(PATIENCE_S) == 0
        (producer.commit_transaction if keep else producer.abort_transaction)(PATIENCE_S)
    async with AttemptLog(place.settings, place.codec) as log:
        assert await log.ends(0) == (0, 16)
        assert await log.ends(1) == (0, 0)
        one = (("msg_1", "r"), Made(2, Retry(7), 3, 40))
        for since, until, found in ((0, 16, [one, one]), (4, 8, []), (8, 9, [one]), (12, 16, [])):
            assert await asyncio.wait_for(log.read(0, since, until), PATIENCE_S) == found
