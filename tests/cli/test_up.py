"""`pipeline up` as its user meets it: one process that starts all others, keeps them, and takes them along."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import psutil
import pytest

from pipeline.http.rest import Rest
from tests.cli.started import Started, fields, mode, started
from tests.live_cluster import LiveCluster
from tests.processes import end

pytestmark = pytest.mark.kafka


def ready(running: Started) -> dict[str, str]:
    return fields(running.until("out", bool))


def role(running: Started, name: str) -> psutil.Process:
    """The process of a role, by its arguments."""
    return next(child for child in running.family() if child.cmdline()[2:5] == ["pipeline", "run", name])


def api_of(place: dict[str, str]) -> Rest:
    kept = json.loads(Path(place["data"], "api.json").read_bytes())
    assert kept["url"] == place["api"]
    return Rest(kept["url"], kept["key"])


def test_a_life(tmp_path: Path) -> None:
    """It says where everything is, restarts what is killed, drains at SIGTERM, and a restart has what was before."""
    folder = tmp_path / "data"
    with started("up", "--data-dir", str(folder), "--senders", "2") as running:
        place = ready(running)
        assert set(place) == {"bootstrap", "registry", "api", "data"}
        assert place["data"] == str(folder)
        with api_of(place) as api:
            api.post("/v1/tenants", {"id": "kept", "name": "Kept", "profile": "standard"})
            secret = api.post("/v1/tenants/kept/webhooks", {"url": "http://127.0.0.1:9/x", "events": ["*"]})["auth"]
        for name in ("api.json", "admin.key", "encryption.keys"):
            assert mode(folder / name) == 0o600
        roles = [child.cmdline()[4] for child in running.family() if child.cmdline()[2:4] == ["pipeline", "run"]]
        assert sorted(roles) == ["api", "delay", "recorder", "replayer", "router", "sender", "sender"]
        assert mode(folder / "log.sqlite") == 0o600

        killed = role(running, "sender")
        killed.kill()
        said = running.until("err", lambda line: "starting it again" in line)
        assert said.startswith("sender-")
        assert "killed by SIGKILL" in said
        assert running.stop() == 0
    assert running.rest("out") == running.out, "nothing but the ready line"
    assert not (folder / "api.json").exists()

    with started("up", "--data-dir", str(folder)) as running, api_of(ready(running)) as api:
        (webhook,) = api.all("/v1/tenants/kept/webhooks", 10)
        assert webhook["auth"]["secret"][-4:] == secret["secret"][-4:], "the key that sealed it is the same"
        family = running.family()
        running.process.kill()
        assert end(family), "children outlived their killed parent"


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the start ends all that was started, with exit code 130."""
    with started("up", "--data-dir", str(tmp_path / "data")) as running:
        running.until("err", lambda line: line == "starting Kafka and the registry")
        assert running.stop(signal.SIGINT) == 130
    assert running.rest("out") == []


def test_a_named_cluster_is_used(cluster: LiveCluster, tmp_path: Path) -> None:
    """With --bootstrap-server and --schema-registry no broker or registry is started, and theirs stay running."""
    named = ["--bootstrap-server", cluster.bootstrap, "--schema-registry", cluster.registry]
    with started("up", "--data-dir", str(tmp_path / "data"), *named) as running:
        place = ready(running)
        assert (place["bootstrap"], place["registry"]) == (cluster.bootstrap, cluster.registry)
        assert not [child for child in running.family() if "java" in child.name()]
        assert running.stop() == 0
    assert set(cluster.pids) == {"kafka", "registry"}


def test_half_a_cluster_is_refused(tmp_path: Path) -> None:
    """A Kafka without its registry is refused in one line, exit code 2."""
    with started("up", "--data-dir", str(tmp_path / "data"), "--bootstrap-server", "127.0.0.1:9") as running:
        assert running.process.wait(30) == 2
        (line,) = running.rest("err")
    assert line.startswith("pipeline: name both or none: --bootstrap-server")


def test_a_taken_api_port_is_refused(tmp_path: Path) -> None:
    """A port that another program has is named before anything is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with started("up", "--data-dir", str(tmp_path / "data"), "--api-port", str(port)) as running:
            assert running.process.wait(30) == 1
            (line,) = running.rest("err")
    assert line.startswith(f"pipeline: Port {port} for the API is taken")
    assert not (tmp_path / "data").exists()
