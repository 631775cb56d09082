"""A process that was stopped: what lies in its memory belongs to another by the time it goes on."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from pathlib import Path

import psutil

from tests.kafka.live import eventually, new_topic, produce, settings_of
from tests.kafka.working import Hands, numbered, running
from tests.leashed import leashed
from tests.live_cluster import LiveCluster

SESSION_MS = 2_000


async def test_what_a_stopped_process_held_is_not_started(cluster: LiveCluster, tmp_path: Path) -> None:
    """SIGSTOP until another has its partition, then SIGCONT: none of its buffered records is started."""
    settings, group, hands = settings_of(cluster, tmp_path), f"tests-stopped-{uuid.uuid4()}", Hands(at_once=True)
    topic, ledger = new_topic(settings), tmp_path / "ledger"
    produce(settings, topic, numbered(2_000))
    program = [sys.executable, str(Path(__file__).with_name("member.py"))]
    arguments = [cluster.bootstrap, group, topic, str(SESSION_MS), str(ledger)]
    with leashed("member", [*program, *arguments], tmp_path, {**os.environ, "PYTHONPATH": os.getcwd()}) as member:  # noqa: PTH109
        await eventually(lambda: ledger.exists() and len(ledger.read_text().split()) > 20, member.log.read_text())
        member.signal(signal.SIGSTOP)
        await eventually(lambda: psutil.Process(member.pid).status() == psutil.STATUS_STOPPED, "it stands still")
        started = ledger.read_text().split()
        async with running(settings, group, topic, hands.processing, "two", session_ms=SESSION_MS):
            await eventually(lambda: len(hands.seen) == 2_000 - hands.seen[0].offset if hands.seen else False, "all")
            member.signal(signal.SIGCONT)
            await eventually(lambda: "partitions lost" in member.log.read_text(), "it learns that it was too late")
            assert ledger.read_text().split() == started
            assert "this process stood still" in member.log.read_text()
    assert {*map(int, started), *(record.offset for record in hands.seen)} == set(range(2_000))
