"""A role ends when a part of it does, or when it stands still: from outside it would look healthy for ever."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.embedded.leash import Child
from tests.kafka.live import PATIENCE_S, committed, new_topic, produce, settings_of
from tests.kafka.working import numbered
from tests.leashed import leashed
from tests.live_cluster import LiveCluster
from tests.prepared import prepared

ENDS_S = 40.0
PARTS = {
    "delay": [
        ("pipeline.kafka.delay", "Holding.run"),
        ("pipeline.cli._wiring", "tick"),
        ("pipeline.kafka.trimming", "Trimming.run"),
    ],
    "sender": [
        ("pipeline.workers.handover", "HandOver.run"),
        ("pipeline.workers.endpoints", "Endpoints.run"),
        ("pipeline.cli._wiring", "tick"),
    ],
    "router": [("pipeline.kafka.age", "Unread.run")],
    "recorder": [("pipeline.workers.retention", "Retention.run")],
    "replayer": [("pipeline.cli._wiring", "tick"), ("pipeline.kafka.standing", "Backlog.run")],
}
"""What runs beside each stage; all of it must last."""
CASES = [(role, module, name) for role, parts in PARTS.items() for module, name in parts]


@pytest.fixture(scope="module", autouse=True)
def _forgotten(cluster: LiveCluster) -> Iterator[None]:
    """Afterwards the groups have no members, whose sessions outlast them: other tests set their offsets."""
    yield
    admin, until = AdminClient({"bootstrap.servers": cluster.bootstrap}), time.monotonic() + 2 * PATIENCE_S
    for role in PARTS:
        group = f"pipeline-{role}"
        while admin.describe_consumer_groups([group])[group].result(PATIENCE_S).members:
            assert time.monotonic() < until


def _run(cluster: LiveCluster, folder: Path, program: str, *arguments: str) -> tuple[int, str]:
    """The program's exit code and what it said, once it has ended by itself."""
    settings = prepared(cluster)
    variables = {
        "PIPELINE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PIPELINE_SCHEMA_REGISTRY": settings.schema_registry,
        "PIPELINE_ENCRYPTION_KEYS": settings.encryption_keys,
        "PIPELINE_DATA_DIR": str(folder),
        "PIPELINE_INSTANCE_ID": uuid.uuid4().hex,
        "PYTHONPATH": os.getcwd(),  # noqa: PTH109
    }
    command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
    with leashed("role", command, folder, {**os.environ, **variables}) as child:
        return _ended(child), child.log.read_text()


def _ended(child: Child) -> int:
    return child.process.wait(ENDS_S)


@pytest.mark.parametrize(("role", "module", "name"), CASES, ids=[f"{role} {name}" for role, _, name in CASES])
def test_a_part_that_dies_ends_the_process(
    cluster: LiveCluster, tmp_path: Path, role: str, module: str, name: str
) -> None:
    """What runs beside a stage is not missed in silence: the process ends with 1 and says what it was."""
    code, said = _run(cluster, tmp_path, "dying.py", role, module, name, "raises")
    assert code == 1, said
    assert f"{name} has died" in said


def test_a_part_that_ends_ends_the_process(cluster: LiveCluster, tmp_path: Path) -> None:
    """What never ends must not end without a word either."""
    code, said = _run(cluster, tmp_path, "dying.py", "delay", "pipeline.kafka.delay", "Holding.run", "ends")
    assert code == 1, said
    assert "a task that never ends has ended" in said


def test_a_stage_that_stands_still_ends_the_process(cluster: LiveCluster, tmp_path: Path) -> None:
    """A record that is never finished ends the process after the watchdog's patience, which says where; no commit."""
    settings, group = settings_of(cluster), f"tests-stuck-{uuid.uuid4()}"
    topic = new_topic(settings)
    produce(settings, topic, numbered(20))
    code, said = _run(cluster, tmp_path, "stuck.py", topic, group, "2")
    assert code == 1, said
    assert "a record was started and has not been finished" in said
    assert f"{topic}[0] at 0" in said
    assert committed(settings, group, topic) in ({}, {0: 0})
