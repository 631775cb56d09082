"""The harness itself, short: the promise holds, and the ledger sees it when it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.faults

_ROOT = Path(__file__).parents[2]
SEED = 4


def _run(folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the figures, and what was said meanwhile."""
    command = (sys.executable, "-m", "tests.faults", "-o", "json", "--data-dir", str(folder), *options)
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Six processes of all roles are killed under load: nothing is lost, and only what was in flight is sent twice."""
    code, figures, said = _run(tmp_path / "run", "--kills", "6", "--seed", str(SEED))
    broken = {name: figures[name] for name in ("lost", "phantom", "mismatched", "stuck", "dead_letters")}
    assert broken == dict.fromkeys(broken, 0), said
    assert figures["duplicates"] <= figures["in_flight"], said
    assert figures["received"] >= figures["acked"] > 0
    assert sum(count for kind, count in figures["faults"].items() if kind.startswith("kill")) == figures["kills"] == 6
    assert code == 0, said


def test_a_loss_is_seen(tmp_path: Path) -> None:
    """Offsets committed too early, delay workers killed: the ledger says what was lost, and the run fails."""
    code, figures, said = _run(tmp_path / "run", "--control", "commit-first", "--seed", str(SEED))
    assert figures["lost"] > 0, said
    assert code == 1


@pytest.mark.full
@pytest.mark.replay
def test_nothing_of_a_replay_is_lost(tmp_path: Path) -> None:
    """The same during replays of what was sent before, the replayer among the killed: their deliveries count too."""
    code, figures, said = _run(tmp_path / "run", "--kills", "6", "--seed", str(SEED), "--during", "replay")
    broken = {name: figures[name] for name in ("lost", "phantom", "mismatched", "stuck", "dead_letters")}
    assert broken == dict.fromkeys(broken, 0), said
    assert figures["duplicates"] <= figures["in_flight"], said
    assert figures["replayed"] > 0 < figures["replays"]
    assert code == 0, said
