"""The broker goes away and comes back: the stages wait, say so, and go on by themselves."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.flow.event import Event
from pipeline.profiles import examples
from pipeline.settings import Settings
from tests.e2e import flow as parts
from tests.e2e import stages
from tests.e2e.flow import Flow, Hook
from tests.live_cluster import live_cluster

pytestmark = pytest.mark.kafka

WITHIN_S = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def told(stage: stages.Stage, broker: str) -> bool:
    """Whether its readiness names that broker; without a name, whether it is ready."""
    troubles = stage.troubles()
    return any(broker in trouble for trouble in troubles) if broker else not troubles


def event(hook: Hook, name: str) -> Event:
    return examples("standard")[0].event(hook.tenant.id, name, time.time_ns() // 1_000_000)


def delivered(flow: Flow, hook: Hook, count: int) -> None:
    assert len({one.webhook_id for one in flow.accepted(hook, count)}) == count


@contextmanager
def at_work(settings: Settings, folder: Path) -> Iterator[tuple[Flow, dict[str, stages.Stage]]]:
    """The flow, with its stages to be looked at."""
    variables = parts._variables(settings)
    stages.call(["topics", "create", "--partitions", "4"], variables, folder)
    stages.call(["schemas", "register"], variables, folder)
    with (
        parts.running_loop() as loop,
        parts._parts(settings, loop) as flow,
        stages.running(("router", "sender", "delay", "recorder"), variables, folder) as started,
    ):
        yield flow, started


def test_a_broker_that_dies_is_waited_for(tmp_path: Path) -> None:
    """While the broker is dead every stage lives and names it in its readiness; after it, events flow as before."""
    with live_cluster(tmp_path / "cluster") as cluster:
        settings = Settings(
            bootstrap_servers=cluster.bootstrap,
            schema_registry=cluster.registry,
            encryption_keys=f"test:{base64.b64encode(os.urandom(32)).decode()}",
            ladder=parts.LADDER,
            egress_allow="127.0.0.0/8",
            data_dir=tmp_path,
            instance_id="down",
        )
        with at_work(settings, tmp_path) as (flow, started):
            hook = flow.hook()
            flow.send(event(hook, "before"))
            delivered(flow, hook, 1)
            cluster.kill_broker()
            for stage in started.values():
                until(partial(told, stage, cluster.bootstrap), f"{stage.role}: {stage.troubles()}")
            cluster.start_broker()
            for stage in started.values():
                until(partial(told, stage, ""), f"{stage.role}: {stage.troubles()}")
            flow.send(event(hook, "after"))
            delivered(flow, hook, 2)
