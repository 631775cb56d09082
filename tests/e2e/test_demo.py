"""The demo as a stranger runs it: one command, and every product's events arrive, verified."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from pipeline.profiles import PROFILES, examples
from tests.cli.started import fields, started
from tests.processes import end

pytestmark = pytest.mark.kafka

FIGURES = {"events", "delivered", "verified", "retried", "dead"}


def test_everything_arrives_verified() -> None:
    """`demo --once -o json` ends by itself with exit code 0 and tells that all was delivered, verified and settled."""
    with started("demo", "--once", "-o", "json") as running:
        ready = fields(running.until("out", bool))
        processes = running.family()
        told = json.loads(running.until("out", bool))
        assert running.process.wait(60) == 0
        assert end(processes), "children outlived the demo"
    assert running.rest("out")[-1] == json.dumps(told), "the figures are the last line"
    assert ready["data"].rpartition("/")[2].startswith("pipeline-demo-")

    sent = {name: len(examples(name)) for name in PROFILES}
    assert told.keys() == {*FIGURES, "profiles"}
    assert told["events"] == sum(sent.values()) >= 60
    assert told["delivered"] == told["verified"] == told["events"]
    assert (told["retried"], told["dead"]) == (2, 1)
    for name, figures in told["profiles"].items():
        special = (2, 1) if name == "standard" else (0, 0)
        assert figures == dict(zip(("events", "delivered", "verified"), [sent[name]] * 3, strict=True)) | dict(
            zip(("retried", "dead"), special, strict=True)
        )
    assert told["profiles"].keys() == PROFILES.keys()


@pytest.mark.full
def test_what_is_open_is_named() -> None:
    """When the retries cannot end in time, `--once` ends with exit code 1 within a minute of `ready` and names them."""
    with started("demo", "--once", "-o", "json", PIPELINE_LADDER="retry-5s=5m retry-60s=6m") as running:
        folder = Path(fields(running.until("out", bool))["data"])
        since = time.monotonic()
        told = json.loads(running.until("out", bool, within=70))
        assert time.monotonic() - since < 65
        assert running.process.wait(60) == 1
        said = running.rest("err")
    open_ = [line for line in said if line.startswith("open: ")]
    assert len(open_) == 2
    assert all(": attempt 1 came to 503, the next one " in line for line in open_)
    assert (told["events"] - told["delivered"], told["retried"]) == (2, 0)
    assert (folder / "logs" / "sender-0.log").exists(), "the logs are kept"
    shutil.rmtree(folder)


def test_json_needs_an_end() -> None:
    """`-o json` without --once is refused: there would never be a last line."""
    with started("demo", "-o", "json") as running:
        assert running.process.wait(30) == 2
        (line,) = running.rest("err")
    assert line == "pipeline: -o json tells how it ended: give --once too"
