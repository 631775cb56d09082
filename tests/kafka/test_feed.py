from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from pipeline.errors import Fenced, Unreachable
from pipeline.kafka import feed as module
from pipeline.kafka import poller
from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.stage import Fail, Process, Stage
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, committed, eventually, new_topic, produce, producing, settings_of
from tests.kafka.working import Hands, numbered, running, until_committed
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    return settings_of(cluster, tmp_path)


@pytest.fixture(autouse=True)
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMIT_S", 0.05)


@pytest.fixture
def group() -> str:
    return f"tests-feed-{uuid.uuid4()}"


async def test_records_come_whole_and_in_order(settings: Settings, group: str) -> None:
    """Every record comes once, in the order of its partition, with key, value, headers, place and timestamp."""
    topic, hands = new_topic(settings, config={"message.timestamp.type": "LogAppendTime"}), Hands()
    producer = producing(settings)
    for number in range(1_200):
        producer.produce(topic, b"%d" % number, b"k", headers=[("hop", b"%d" % number), ("empty", None)])
    producer.produce(topic, None, None)
    assert producer.flush(PATIENCE_S) == 0
    async with running(settings, group, topic, hands.processing):
        await eventually(lambda: len(hands.seen) == 1_201)
    assert hands.places == [(0, number) for number in range(1_201)]
    record = hands.seen[7]
    assert (record.topic, record.key, record.value) == (topic, b"k", b"7")
    assert record.headers == (("hop", b"7"), ("empty", b""))
    assert record.timestamp_ms > 1_700_000_000_000
    assert (hands.seen[-1].key, hands.seen[-1].value, hands.seen[-1].headers) == (None, None, ())


async def test_the_floor_is_committed(settings: Settings, group: str) -> None:
    """What is committed follows the lowest unfinished record, whatever the order of the ends."""
    topic, hands = new_topic(settings), Hands()
    produce(settings, topic, numbered(10))
    async with running(settings, group, topic, hands.processing):
        await eventually(lambda: len(hands.seen) == 10)
        await until_committed(settings, group, topic, {0: 0})
        hands.finish(7, 1, 9, 0)
        await until_committed(settings, group, topic, {0: 2})
        hands.finish(2, 3, 4, 5, 6)
        await until_committed(settings, group, topic, {0: 8})
        hands.finish(8)
        await until_committed(settings, group, topic, {0: 10})


async def test_a_restart_goes_on_at_the_commit(settings: Settings, group: str) -> None:
    """A new process of the same slot gets what was unfinished, and nothing of what lay below."""
    topic, first, second = new_topic(settings), Hands(), Hands()
    produce(settings, topic, numbered(5))
    async with running(settings, group, topic, first.processing):
        await eventually(lambda: len(first.seen) == 5)
        first.finish(0, 1, 3)
    assert committed(settings, group, topic) == {0: 2}
    async with running(settings, group, topic, second.processing):
        await eventually(lambda: len(second.seen) == 3)
        assert second.places == [(0, 2), (0, 3), (0, 4)]


async def test_aborted_records_never_come(settings: Settings, group: str) -> None:
    """What a transaction has aborted is not delivered, and the markers neither stall nor skip the commit."""
    topic, hands = new_topic(settings), Hands(at_once=True)
    producer = producing(settings, transactional_id=f"tests-{group}")
    producer.init_transactions(PATIENCE_S)
    for value, keep in ((b"a", True), (b"b", False), (b"c", True), (b"d", False)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.produce(topic, value)
        assert producer.flush(PATIENCE_S) == 0
        (producer.commit_transaction if keep else producer.abort_transaction)(PATIENCE_S)
    async with running(settings, group, topic, hands.processing):
        await eventually(lambda: len(hands.seen) == 4)
        await until_committed(settings, group, topic, {0: 12})
    assert [record.value for record in hands.seen] == [b"a", b"a", b"c", b"c"]


async def test_stopping_waits_for_what_is_in_flight(settings: Settings, group: str) -> None:
    """A drain starts nothing more, waits for what is in flight, commits it, and says that nothing was cut."""
    topic, hands = new_topic(settings), Hands()
    produce(settings, topic, numbered(3))
    stage = Stage(settings, Source(group, "one", (topic,)), hands.processing)
    await stage.start()
    await eventually(lambda: len(hands.seen) == 3)
    stopping = asyncio.create_task(stage.stop(PATIENCE_S))
    await eventually(stage.feed._poller.leave.is_set)
    produce(settings, topic, numbered(2))
    hands.finish(0, 2)
    assert not stopping.done()
    hands.finish(1)
    assert await stopping is True
    assert committed(settings, group, topic) == {0: 3}
    assert len(hands.seen) == 3


async def test_stopping_cuts_after_the_grace(settings: Settings, group: str) -> None:
    """What is still in flight when the grace is over is not committed, and the answer says so."""
    topic, hands = new_topic(settings), Hands()
    produce(settings, topic, numbered(3))
    stage = Stage(settings, Source(group, "one", (topic,)), hands.processing)
    await stage.start()
    await eventually(lambda: len(hands.seen) == 3)
    hands.finish(0)
    assert await stage.stop(0.05) is False
    assert committed(settings, group, topic) == {0: 1}


async def test_an_exception_ends_the_stage_without_a_commit(settings: Settings, group: str) -> None:
    """What processing raises is told, and neither its batch nor anything after it is committed."""
    topic = new_topic(settings)
    produce(settings, topic, numbered(4))
    boom, hands = RuntimeError("ours"), Hands()

    def processing(_fail: Fail) -> Process:
        hands.gate.set()

        async def take(batch: Batch) -> None:
            await hands.take(batch)
            hands.finish_all()
            raise boom

        return take

    async with running(settings, group, topic, processing) as stage:
        assert await asyncio.wait_for(stage.failed, PATIENCE_S) is boom
        produce(settings, topic, numbered(4))
    assert committed(settings, group, topic) == {}
    assert len(hands.seen) == 4


async def test_a_failure_outside_a_batch_ends_the_stage_too(settings: Settings, group: str) -> None:
    """What a worker reports later, of a record long started, stops commits and new work as well."""
    topic, hands = new_topic(settings), Hands()
    produce(settings, topic, numbered(4))
    fails: list[Fail] = []

    def processing(fail: Fail) -> Process:
        fails.append(fail)
        return hands.processing(fail)

    async with running(settings, group, topic, processing) as stage:
        await eventually(lambda: len(hands.seen) == 4)
        boom = RuntimeError("ours")
        fails[0](boom)
        fails[0](RuntimeError("the second"))
        hands.finish_all()
        assert stage.failed.result() is boom
        produce(settings, topic, numbered(4))
    assert committed(settings, group, topic) == {}
    assert len(hands.seen) == 4


async def test_two_members_share_the_partitions(settings: Settings, group: str) -> None:
    """A second process takes over half of the partitions; every record is worked on by one of them."""
    topic, one, two = new_topic(settings, 4), Hands(at_once=True), Hands(at_once=True)
    for partition in range(4):
        produce(settings, topic, numbered(10), partition)
    async with running(settings, group, topic, one.processing) as first:
        await eventually(lambda: len(one.seen) == 40)
        async with running(settings, group, topic, two.processing, "two") as second:
            await eventually(
                lambda: len(first.feed.tracker.partitions) == len(second.feed.tracker.partitions) == 2, "two each"
            )
            for partition in range(4):
                produce(settings, topic, numbered(10), partition)
            await eventually(lambda: len(one.seen) + len(two.seen) == 80)
            await until_committed(settings, group, topic, dict.fromkeys(range(4), 20))
    assert len({*one.places, *two.places}) == 80
    assert len(two.seen) == 20


async def test_a_partition_is_given_up_with_its_commit(settings: Settings, group: str) -> None:
    """What is in flight when a partition is taken away may finish and is committed before the next owner starts."""
    topic, one, two = new_topic(settings, 2), Hands(), Hands()
    for partition in (0, 1):
        produce(settings, topic, numbered(3), partition)
    async with running(settings, group, topic, one.processing) as first:
        await eventually(lambda: len(one.seen) == 6)
        held = dict(first.feed.tracker.partitions)
        async with running(settings, group, topic, two.processing, "two"):
            await eventually(lambda: any(not progress.open for progress in held.values()))
            ((_, lost),) = [place for place, progress in held.items() if not progress.open]
            assert not two.seen
            one.finish(0, 1, partition=lost)
            one.finish(2, partition=lost)
            await eventually(lambda: len(first.feed.tracker.partitions) == 1)
            assert (await asyncio.to_thread(committed, settings, group, topic))[lost] == 3
            produce(settings, topic, numbered(1), lost)
            await eventually(lambda: bool(two.seen))
    assert two.places == [(lost, 3)]


async def test_what_outlasts_the_giving_up_is_repeated(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that does not end in time is left to the next owner, and its late end commits nothing."""
    monkeypatch.setattr(module, "GIVE_UP_S", 0.2)
    topic, one, two = new_topic(settings, 2), Hands(), Hands()
    for partition in (0, 1):
        produce(settings, topic, numbered(2), partition)
    async with running(settings, group, topic, one.processing) as first:
        await eventually(lambda: len(one.seen) == 4)
        async with running(settings, group, topic, two.processing, "two"):
            await eventually(lambda: bool(two.seen))
            lost = two.seen[0].partition
            assert (lost, 0) in one.held
            one.finish(0, 1, partition=lost)
            assert (topic, lost) not in first.feed.tracker.partitions
            await eventually(lambda: len(two.seen) == 2)
            await until_committed(settings, group, topic, {0: 0, 1: 0})
    assert two.places == [(lost, 0), (lost, 1)]


async def test_an_older_floor_never_follows_the_last_commit(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regular commit that fell due while a partition was given up does not put its offset back afterwards."""
    topic, one, two = new_topic(settings, 2), Hands(), Hands(at_once=True)
    for partition in (0, 1):
        produce(settings, topic, numbered(4), partition)
    async with running(settings, group, topic, one.processing) as first:
        await eventually(lambda: len(one.seen) == 8)
        held = dict(first.feed.tracker.partitions)
        async with running(settings, group, topic, two.processing, "two"):
            await eventually(lambda: any(not progress.open for progress in held.values()))
            ((_, lost),) = [place for place, progress in held.items() if not progress.open]
            one.finish(0, 1, partition=lost)
            await eventually(lambda: first.feed._poller.to_commit.get((topic, lost)) == 2, "the floor of 2 is due")
            first.feed._beside[1].cancel()  # nothing newer comes after it
            one.finish(2, 3, partition=lost)
            await eventually(lambda: len(first.feed.tracker.partitions) == 1)
            polled = _counted(first, monkeypatch)
            await eventually(lambda: len(polled) > 5)
            assert (await asyncio.to_thread(committed, settings, group, topic))[lost] == 4


async def test_a_full_stage_keeps_its_membership(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its work stands still, a member still takes part in rebalances, and reads next to nothing meanwhile."""
    monkeypatch.setattr(poller, "_BLOCKED_S", 0.1)
    topic, hands = new_topic(settings, 2), Hands(at_once=True)
    other = _plain_member(settings, group, topic)
    try:
        async with running(settings, group, topic, hands.processing) as stage:
            await _while_polling(other, lambda: len(stage.feed.tracker.partitions) == 1)
            hands.gate.clear()
            for partition in (0, 1):
                produce(settings, topic, numbered(8_000), partition)
            polled = _counted(stage, monkeypatch)
            await eventually(lambda: len(polled) > 20, "many polls while nothing is taken")
            await asyncio.to_thread(other.close)
            await eventually(lambda: len(stage.feed.tracker.partitions) == 2, "the other's partition has come")
            polled.clear()
            await eventually(lambda: len(polled) > 20)
            assert sum(polled) <= 2 * poller.BATCH
            assert not stage.failed.done()
            hands.gate.set()
            await eventually(lambda: len(hands.seen) == 16_000, "nothing is lost")
        assert len(set(hands.places)) == 16_000
    finally:
        other.close()


def _plain_member(settings: Settings, group: str, topic: str) -> Consumer:
    """A member that leaves at once when it is closed."""
    config = {"partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 100}
    member = Consumer(
        {
            **config,
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6_000,
        }
    )
    member.subscribe([topic])
    return member


async def _while_polling(member: Consumer, look: Callable[[], bool]) -> None:
    for _ in range(400):
        await asyncio.to_thread(member.poll, 0.05)
        if look() and member.assignment():
            return
    raise AssertionError("the members do not share")


def _counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each poll of the feed brings."""
    counts: list[int] = []
    poller = stage.feed._poller
    poll = poller._poll

    def counting(timeout_s: float) -> None:
        before = len(poller._in_hand)
        poll(timeout_s)
        counts.append(len(poller._in_hand) - before)

    monkeypatch.setattr(poller, "_poll", counting)
    return counts


async def test_a_second_process_of_the_same_slot_fences_the_first(settings: Settings, group: str) -> None:
    """Under one instance id only the newest process goes on: the older one must end, and commits nothing more."""
    topic, one, two = new_topic(settings), Hands(), Hands()
    async with running(settings, group, topic, one.processing) as first:
        await eventually(lambda: first.feed.joined)
        async with running(settings, group, topic, two.processing):
            produce(settings, topic, numbered(1))
            await eventually(lambda: bool(two.seen))
            assert isinstance(await asyncio.wait_for(first.failed, PATIENCE_S), Fenced)


async def test_partitions_are_not_read_while_told_so(settings: Settings, group: str) -> None:
    """A partition that `paused` names brings nothing until it no longer does; others go on."""
    topic, hands = new_topic(settings, 2), Hands(at_once=True)
    paused: list[frozenset[tuple[str, int]]] = [frozenset()]
    async with running(settings, group, topic, hands.processing, paused=lambda: paused[0]) as stage:
        await eventually(lambda: len(stage.feed.tracker.partitions) == 2)
        paused[0] = frozenset({(topic, 0), ("elsewhere", 3)})
        await eventually(lambda: (topic, 0) in stage.feed._poller._paused)
        for partition in (0, 1):
            produce(settings, topic, numbered(5), partition)
        await eventually(lambda: len(hands.seen) == 5)
        assert {partition for partition, _ in hands.places} == {1}
        paused[0] = frozenset()
        await eventually(lambda: len(hands.seen) == 10)


async def test_each_batch_brings_what_was_asked(settings: Settings, group: str) -> None:
    """The answer to `ask` is given after the poll and comes with the batch; while nobody answers, it waits."""
    topic = new_topic(settings)
    produce(settings, topic, numbered(1))
    answers: list[Exception | dict[tuple[str, int], int]] = [
        Unreachable("away"),
        Unreachable("away"),
        {("views", 0): 7},
    ]
    taken: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()

    def ask() -> dict[tuple[str, int], int]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def processing(_fail: Fail) -> Process:
        async def take(batch: Batch) -> None:
            taken.set_result(batch)

        return take

    async with running(settings, group, topic, processing, ask=ask):
        batch = await asyncio.wait_for(taken, PATIENCE_S)
    assert batch.ends == {("views", 0): 7}
    assert len(batch.records) == 1
