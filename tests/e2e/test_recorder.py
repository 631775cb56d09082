"""The delivery log, written by a recorder beside the running stages."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipeline.flow.event import Event
from pipeline.flow.history import Status
from pipeline.http.receiver import Script
from pipeline.kafka import topics
from pipeline.kafka.messages import as_record
from pipeline.store.log import DeliveryLog, DeliveryRow, open_log
from pipeline.workers.recorder import Projection
from tests.e2e import flow as parts
from tests.e2e import stages
from tests.e2e.flow import Flow, Hook
from tests.leashed import leashed

pytestmark = pytest.mark.kafka

WITHIN_S = 60.0
BURST = 200
TABLES = ("events", "deliveries", "attempts", "dead_letters")


@dataclass(frozen=True, slots=True)
class World:
    """The flow, and what a recorder beside it needs."""

    flow: Flow
    folder: Path
    log: DeliveryLog

    @property
    def variables(self) -> Mapping[str, str]:
        """The recorder's environment: its log is in a folder of its own."""
        return {**parts._variables(self.flow.settings), "PIPELINE_DATA_DIR": str(self.folder)}

    @property
    def file(self) -> Path:
        """The database."""
        return self.folder / "log.sqlite"

    def row(self, hook: Hook, event: str) -> DeliveryRow | None:
        """What the log says of the event's delivery to the hook."""
        found = self.log.deliveries_of_event(hook.tenant.id, event)
        return next((row for row in found if row.webhook == hook.subscription.webhook), None)

    def until_status(self, hook: Hook, event: str, status: Status) -> DeliveryRow:
        """The delivery's row, once it stands so."""
        until(lambda: getattr(self.row(hook, event), "status", None) is status, lambda: self.row(hook, event))
        row = self.row(hook, event)
        assert row is not None
        return row


@pytest.fixture(scope="module")
def world(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("recorder")
    with closing(open_log(f"sqlite:///{folder / 'log.sqlite'}")) as log:
        yield World(flow, folder, log)


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


@contextmanager
def recorder(world: World) -> Iterator[stages.Stage]:
    """A recorder that is ready; at the end it drains."""
    with stages.started("recorder", world.variables, world.folder) as stage:
        until(lambda: not stage.troubles(), stage.troubles)
        yield stage


def send(flow: Flow, hook: Hook, event: str, kind: str = "order.paid") -> None:
    flow.send(Event(event, hook.tenant.id, kind, time.time_ns() // 1_000_000, "{}"))


def test_the_log_tells_what_became_of_events(world: World) -> None:
    """A delivery that arrived, one on its way again, one that failed and one that was called off each stand so."""
    flow = world.flow
    arrived, gone = flow.hook(), flow.hook(answers=Script(status=410))
    stubborn = flow.hook(answers=Script(status=503))
    with recorder(world):
        for hook in (arrived, gone, stubborn):
            send(flow, hook, "e1")
        row = world.until_status(arrived, "e1", Status.DELIVERED)
        assert (row.attempts, row.status_code, row.type) == (1, 200, "order.paid")
        assert world.until_status(gone, "e1", Status.FAILED).status_code == 410
        world.until_status(stubborn, "e1", Status.RETRYING)
        flow.write_webhook(replace(stubborn.subscription, active=False, version=2))
        row = world.until_status(stubborn, "e1", Status.CANCELLED)
        seen = world.log.attempts(row.tenant, row.id)
        assert [one.attempt.verdict.value for one in seen] == ["rejected"] * (len(seen) - 1) + ["skipped"]
        until(lambda: getattr(world.row(arrived, "e1"), "event_offset", None) is not None, lambda: "no place yet")
        # The event and its deliveries are records of different topics: either's row may come first.
        until(lambda: world.log.event(arrived.tenant.id, "e1") is not None, lambda: "no event yet")
        event, delivered = world.log.event(arrived.tenant.id, "e1"), world.row(arrived, "e1")
        assert event is not None
        assert delivered is not None
        assert (delivered.event_partition, delivered.event_offset) == (event.partition, event.offset)


def test_a_log_that_is_locked_is_waited_for(world: World) -> None:
    """While another holds the database the recorder says so; then it goes on by itself, and has missed nothing."""
    flow, hook = world.flow, world.flow.hook()
    with recorder(world) as stage, closing(sqlite3.connect(world.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(flow, hook, "e1")
        until(lambda: any("delivery log" in why for why in stage.troubles()), stage.troubles)
        assert world.row(hook, "e1") is None
        other.execute("ROLLBACK")
        world.until_status(hook, "e1", Status.DELIVERED)
        until(lambda: not stage.troubles(), stage.troubles)


def test_a_killed_recorder_has_missed_nothing(world: World) -> None:
    """Killed between transaction and commit it comes to the tables of one that was not; so does making them again."""
    flow = world.flow
    gone = flow.hook(answers=Script(status=410))
    hooks = [flow.hook(), flow.hook(answers=Script(times=1, chosen=5)), gone]
    flow.send(Event("lost", hooks[0].tenant.id, "", 0, "{}"))  # a dead letter that is nobody's
    for number in range(BURST):
        send(flow, hooks[number % 2], f"e{number}")
    dies = {**world.variables, "PIPELINE_FAULTS": "1", "PIPELINE_FAIL_AT": "before-commit:1"}
    with leashed("dying", stages.command("run", "recorder"), world.folder, stages.bare(dies, world.folder)) as child:
        assert child.process.wait(WITHIN_S) == -signal.SIGKILL
    send(flow, gone, "e1")  # disabled by its answer: it gets no more
    with recorder(world):
        until(lambda: ended(world, hooks) == BURST + 1, lambda: f"{ended(world, hooks)} deliveries have ended")
        flow.dead_letter_of(gone)
        held = dump(undisturbed(world), hooks)
        until(lambda: dump(world.file, hooks) == held, lambda: differing(dump(world.file, hooks), held))
    assert [len(held[table]) for table in ("events", "deliveries")] == [BURST + 1, BURST + 1]

    said = stages.call(["recorder", "rebuild"], world.variables, world.folder)
    assert "the log is made again" in said
    assert dump(world.file, hooks) == held


def test_a_log_that_is_put_back_is_completed(world: World) -> None:
    """A log from an older copy says itself how far it is: what it lacks is read again, whatever is committed."""
    flow, hook = world.flow, world.flow.hook()
    copy = world.folder / "copy.sqlite"
    with closing(sqlite3.connect(world.file)) as now, closing(sqlite3.connect(copy)) as then:
        now.backup(then)
    with recorder(world):
        send(flow, hook, "e1")
        world.until_status(hook, "e1", Status.DELIVERED)
    with closing(sqlite3.connect(copy)) as then, closing(sqlite3.connect(world.file)) as now:
        then.backup(now)
    assert world.row(hook, "e1") is None
    with recorder(world):
        world.until_status(hook, "e1", Status.DELIVERED)


def ended(world: World, hooks: list[Hook]) -> int:
    """How many of the hooks' deliveries are, in the log, neither pending (0) nor retrying (1)."""
    tenants = tuple(hook.tenant.id for hook in hooks)
    with closing(sqlite3.connect(world.file)) as database:
        count = "SELECT count(*) FROM deliveries WHERE tenant IN (?, ?, ?) AND state > 1"
        return int(database.execute(count, tenants).fetchone()[0])


def dump(file: Path, hooks: list[Hook]) -> dict[str, list[Any]]:
    """All that the log holds of the hooks' tenants."""
    tenants = tuple(hook.tenant.id for hook in hooks)
    with closing(sqlite3.connect(file)) as database:
        every = "SELECT * FROM {} WHERE tenant IN (?, ?, ?)"
        return {table: sorted(database.execute(every.format(table), tenants), key=repr) for table in TABLES}


def differing(found: dict[str, list[Any]], held: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows that are in one of both alone."""
    return {
        table: [row for row in (*found[table], *held[table]) if not (row in found[table] and row in held[table])]
        for table in TABLES
    }


def undisturbed(world: World) -> Path:
    """The log that comes of reading every topic once, one after the other."""
    file, codec = world.folder / "undisturbed.sqlite", world.flow.codec
    projection = Projection(codec)
    with closing(open_log(f"sqlite:///{file}")) as log:
        for name in topics.GROUPS["pipeline-recorder"]:
            records = [as_record(message) for message in everything(world.flow.settings.bootstrap_servers, name)]
            for value in (projection.value, projection.inside):
                asyncio.run(codec.learn(map(value, records)))
            log.write([entry for record in records if (entry := projection(record)) is not None])
    return file


def everything(bootstrap: str, topic: str) -> Iterator[Any]:
    """All committed records of a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests-all", "enable.partition.eof": True})
    try:
        left = {*consumer.list_topics(topic, timeout=10).topics[topic].partitions}
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        while left:
            message = consumer.poll(10)
            assert message is not None
            if (error := message.error()) is None:
                yield message
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(message.partition())
    finally:
        consumer.close()
