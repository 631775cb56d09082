"""Fail-points and controls act only where somebody has allowed them, on a broker of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from pipeline.errors import SettingsError
from pipeline.faults import Control, Faults, Point
from pipeline.kafka.clients import producer_config
from pipeline.kafka.controls import CommitFirst, progress_of
from pipeline.kafka.tracker import Progress
from pipeline.settings import Settings
from pipeline.workers.mortal import mortal

LOCAL = Settings(bootstrap_servers="127.0.0.1:9092,[::1]:9093,localhost:9094")
FAR = Settings(bootstrap_servers="127.0.0.1:9092,kafka.example:9092")
OVERRIDDEN = Settings(bootstrap_servers="127.0.0.1:9092", kafka={"bootstrap.servers": "192.0.2.1:9092"})
ASKED = ({"PIPELINE_FAIL_AT": "before-commit:1"}, {"PIPELINE_CONTROL": "acks-0"})


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("allowed", [{}, {"PIPELINE_FAULTS": ""}, {"PIPELINE_FAULTS": "0"}])
def test_it_must_be_allowed(asked: Mapping[str, str], allowed: Mapping[str, str]) -> None:
    """Without PIPELINE_FAULTS=1 a process that is asked to break refuses."""
    with pytest.raises(SettingsError, match="PIPELINE_FAULTS=1"):
        Faults.of(LOCAL, {**asked, **allowed})


@pytest.mark.parametrize("asked", [*ASKED, {}])
@pytest.mark.parametrize("settings", [FAR, OVERRIDDEN], ids=["named", "overridden"])
def test_only_with_brokers_on_loopback(asked: Mapping[str, str], settings: Settings) -> None:
    """One broker elsewhere is enough to refuse, wherever it is named."""
    with pytest.raises(SettingsError, match="loopback"):
        Faults.of(settings, {**asked, "PIPELINE_FAULTS": "1"})


@pytest.mark.parametrize(
    "asked", ["nowhere:1", "before-commit", "before-commit:0", "before-commit:x", "before-commit/:1"]
)
def test_a_point_must_be_known(asked: str) -> None:
    """A point that is none is refused, with the list of those that there are."""
    with pytest.raises(SettingsError, match="after-commit"):
        Faults.of(LOCAL, {"PIPELINE_FAULTS": "1", "PIPELINE_FAIL_AT": asked})


def test_a_control_must_be_known() -> None:
    """A control that is none is refused, with the list of those that there are."""
    with pytest.raises(SettingsError, match="swallow-errors"):
        Faults.of(LOCAL, {"PIPELINE_FAULTS": "1", "PIPELINE_CONTROL": "acks-2"})


@pytest.mark.parametrize("role", ["router", "sender", "delay", "api"])
def test_a_process_refuses_to_start(role: str) -> None:
    """Exit code 2 and one line, before anything is done."""
    env = {"PATH": os.environ["PATH"], "PIPELINE_CONTROL": "commit-first"}
    command = (sys.executable, "-m", "pipeline", "run", role, "--bootstrap-server", "192.0.2.1:9092")
    done = subprocess.run(
        (*command, "--schema-registry", "http://192.0.2.1"),
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pipeline: PIPELINE_CONTROL breaks this process on purpose: it needs PIPELINE_FAULTS=1, or be removed\n"
    )


class _Client:
    async def send(self, request: object) -> object:
        return request


def test_without_faults_every_call_is_the_very_same() -> None:
    """A process that is asked for nothing runs no line of this: its parts get their own calls back."""
    client, none = _Client(), Faults.of(LOCAL, {})
    assert all(none.at(point, client.send) == client.send for point in Point)
    assert (progress_of(none), none.producer) == (Progress, {})
    assert mortal(client, none) is client  # type: ignore[arg-type, comparison-overlap]


def test_the_controls_change_what_they_say() -> None:
    """No acknowledgements; a second's patience; a floor at the last record read."""
    acks, swallow, first = (
        Faults(control=control) for control in (Control.ACKS_0, Control.SWALLOW_ERRORS, Control.COMMIT_FIRST)
    )
    assert acks.producer == {"acks": "0", "enable_idempotence": False}
    assert swallow.producer == {"message_timeout_ms": 1_000}
    assert progress_of(first) is CommitFirst


def test_the_writer_of_control_records_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transactional producer cannot do without acknowledgements; the controls are about the others."""
    monkeypatch.setenv("PIPELINE_FAULTS", "1")
    monkeypatch.setenv("PIPELINE_CONTROL", "acks-0")
    assert producer_config(LOCAL)["acks"] == "0"
    assert producer_config(LOCAL, transactional_id="x")["acks"] == "all"


def _killed_after(monkeypatch: pytest.MonkeyPatch, faults: Faults, topics: list[str]) -> list[str]:
    """Which calls were made before the process would have killed itself."""
    made: list[str] = []

    class Died(Exception):
        pass

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        raise Died

    monkeypatch.setattr(os, "kill", kill)
    call = faults.at(Point.BEFORE_PRODUCE, made.append, lambda topic: topic)
    with pytest.raises(Died):
        list(map(call, topics))
    return made


def test_it_dies_the_nth_time_on_that_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """`before-produce/retry:2` is before the second record of a tier, and counts no other."""
    faults = Faults(Point.BEFORE_PRODUCE, "retry", 2)
    made = _killed_after(monkeypatch, faults, ["attempts", "retry-5s", "attempts", "retry-60s", "attempts"])
    assert made == ["attempts", "retry-5s", "attempts"]


@pytest.mark.parametrize(("point", "sent"), [(Point.BEFORE_REQUEST, 1), (Point.AFTER_RESPONSE, 2)])
def test_it_dies_around_a_request(monkeypatch: pytest.MonkeyPatch, point: Point, sent: int) -> None:
    """Before the second request is made, or when its answer is there."""
    made: list[object] = []

    class Counting:
        async def send(self, request: object) -> object:
            made.append(request)
            return request

    client = mortal(Counting(), Faults(point, nth=2))  # type: ignore[arg-type]
    monkeypatch.setattr(os, "kill", lambda *_: sys.exit(9))

    async def twice() -> None:
        for _ in range(2):
            await client.send("request")  # type: ignore[arg-type]

    with pytest.raises(SystemExit):
        asyncio.run(twice())
    assert len(made) == sent
