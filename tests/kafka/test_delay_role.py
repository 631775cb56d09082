"""`pipeline run delay` as a process: what can only be seen from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.flow.deliver import Carriage
from pipeline.kafka import topics
from pipeline.settings import Settings
from pipeline.workers.carriage import to_headers
from tests.e2e import stages
from tests.kafka.live import PATIENCE_S, committed, consume, new_topic, producing
from tests.live_cluster import LiveCluster
from tests.prepared import prepared

FIRST, LAST = "retry-307ms", "retry-308m"
"""Tiers that only these tests have: records come out of the first, and stay in the last."""
WAIT_MS, LAST_MS = 307, 308 * 60_000
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}

_CLOCK = """
import time

wall, wall_ns, hours = time.time, time.time_ns, {hours}
shift = lambda: 3600 * hours[int(time.monotonic() * 10) % len(hours)]
time.time = lambda: wall() + shift()
time.time_ns = lambda: wall_ns() + shift() * 10**9
"""
"""What Python runs first, as `sitecustomize`: a wall clock that is wrong, and changes ten times a second."""


@pytest.fixture(scope="module", autouse=True)
def _forgotten(cluster: LiveCluster) -> Iterator[None]:
    """Afterwards the group has no members, whose sessions outlast them: other tests set its offsets."""
    yield
    admin, until = AdminClient({"bootstrap.servers": cluster.bootstrap}), time.monotonic() + 2 * PATIENCE_S
    while admin.describe_consumer_groups([topics.DELAY_GROUP])[topics.DELAY_GROUP].result(PATIENCE_S).members:
        assert time.monotonic() < until


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Iterator[Settings]:
    """A role with a ladder of the test's own; the tiers are gone afterwards."""
    made = replace(prepared(cluster), data_dir=tmp_path, ladder=f"retry-60s {LAST}", instance_id="delay-role")
    new_topic(made, 1, APPEND_TIME, LAST)
    yield made
    admin = AdminClient({"bootstrap.servers": made.bootstrap_servers})
    for answer in admin.delete_topics([name for name in (FIRST, LAST) if name in topics.existing(admin)]).values():
        answer.result(PATIENCE_S)


@contextmanager
def delaying(settings: Settings, folder: Path, **more: str) -> Iterator[stages.Stage]:
    variables = {
        "PIPELINE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PIPELINE_SCHEMA_REGISTRY": settings.schema_registry,
        "PIPELINE_DATA_DIR": str(settings.data_dir),
        "PIPELINE_LADDER": settings.ladder,
        "PIPELINE_INSTANCE_ID": settings.instance_id,
    }
    with stages.running(("delay",), {**variables, **more}, folder) as started:
        yield started["delay"]


def waited_ms(settings: Settings, count: int) -> list[int]:
    """Write records to the first tier, a few at a time, and how long each was there by the broker's clock, sorted."""
    producer, pause = producing(settings), threading.Event()
    headers: Any = list(to_headers(Carriage("r1", 1, WAIT_MS + LAST_MS)))
    for number in range(count):
        producer.produce(FIRST, b"%d" % number, b"acme/wh_1", headers=headers)
        producer.flush(PATIENCE_S)
        pause.wait(0.02)  # spread over the clock's jumps
    ended = {message.value(): message.timestamp()[1] for message in consume(settings, LAST, count)}
    began = {message.value(): message.timestamp()[1] for message in consume(settings, FIRST, count)}
    return sorted(ended[value] - began[value] for value in began)


@pytest.mark.parametrize("hours", [(1,), (-1,), (1, -1, 0)])
def test_a_wrong_wall_clock_makes_nothing_early_or_late(
    settings: Settings, tmp_path: Path, hours: tuple[int, ...]
) -> None:
    """With a wall clock that is wrong by an hour, or jumps, a record waits its tier's time by the broker's clock."""
    new_topic(settings, 1, APPEND_TIME, FIRST)
    (tmp_path / "sitecustomize.py").write_text(_CLOCK.format(hours=hours))
    with delaying(settings, tmp_path, PYTHONPATH=str(tmp_path)):
        waited = waited_ms(settings, 50)
    assert waited[0] >= WAIT_MS
    assert waited[len(waited) // 2] < WAIT_MS + 500


def test_a_tier_that_is_made_while_the_role_runs_is_read(settings: Settings, tmp_path: Path) -> None:
    """A tier that the setting gains is made beside the working role, read by it soon, and by the one after it."""
    with delaying(settings, tmp_path):
        assert topics.create(replace(settings, ladder=f"{settings.ladder} {FIRST}"), 2, 1) == [FIRST]
        waited = waited_ms(settings, 10)
    assert waited[0] >= WAIT_MS
    assert sum(committed(settings, topics.DELAY_GROUP, FIRST).values()) == 10
    with delaying(settings, tmp_path) as stage:
        assert stage.troubles() == []
