"""What the Compose file starts, started: Kafka, registry, set-up and stages with nothing but the file's variables."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.addresses import claim
from tests.deploy import composed
from tests.leashed import told_to_stop

pytestmark = pytest.mark.kafka

VOLUME = "/var/lib/kafka/data"


@dataclass(frozen=True, slots=True)
class Machine:
    """The file's services with this machine's addresses, once Kafka and the registry run and the set-up is done."""

    services: Mapping[str, Any]
    folder: Path

    def own(self, name: str) -> dict[str, Any]:
        """The service on a port of its own."""
        places = {"0.0.0.0": "127.0.0.1", "9090": str(claim(0, name, "")), ":8080": f":{claim(0, name, '')}"}  # noqa: S104
        found: dict[str, Any] = composed.placed(self.services[name], places)
        return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("composed")
    kafka_port, controller_port, registry_port = (claim(0, name, "") for name in ("Kafka", "controller", "registry"))
    places = {
        VOLUME: str(folder / "volume"),
        "kafka:9092": f"127.0.0.1:{kafka_port}",
        "//:9092": f"//127.0.0.1:{kafka_port}",
        "localhost:9093": f"127.0.0.1:{controller_port}",
        "localhost/9092": f"127.0.0.1/{kafka_port}",
        "registry:8080": f"127.0.0.1:{registry_port}",
        "localhost/8080": f"127.0.0.1/{registry_port}",
    }
    services = composed.placed(composed.read(composed.SECRETS)["services"], places)
    kafka, registry = services["kafka"], services["registry"]
    command = composed.kafka_command(kafka, folder / "kafka")
    with composed.started(command, kafka, folder / "kafka") as broker:
        composed.await_healthy(kafka, broker, folder / "kafka")
        with composed.started(composed.registry_command(registry_port), registry, folder / "registry") as schemas:
            composed.await_healthy(registry, schemas, folder / "registry")
            made = Machine(services, folder)
            assert "created events" in _set_up(made)
            yield made


def _set_up(machine: Machine) -> str:
    service, folder = machine.services["setup"], machine.folder / "setup"
    with composed.started(composed.command_of(service), service, folder) as child:
        code = child.process.wait(60)
    output = child.log.read_text()
    assert code == 0, output
    return output


def test_the_set_up_can_be_repeated(machine: Machine) -> None:
    """Topics and schemas that are there stay as they are."""
    again = _set_up(machine)
    assert "all topics are there" in again
    assert "events-value" in again


def test_the_volume_holds_kafkas_records(machine: Machine) -> None:
    """What must outlive a container lies on the volume."""
    assert (machine.folder / "volume" / "meta.properties").is_file()
    assert (machine.folder / "volume" / "events-11").is_dir()


@pytest.mark.parametrize("name", ["router", "sender", "delay", "recorder", "replayer", "api"])
def test_a_stage_becomes_healthy_and_drains(machine: Machine, name: str) -> None:
    """With just its variables it passes its own health check; told to stop, it ends by itself within the grace."""
    service, folder = machine.own(name), machine.folder / name
    with composed.started(composed.command_of(service), service, folder) as child:
        composed.await_healthy(service, child, folder)
        told_to_stop(child, float(service["stop_grace_period"].removesuffix("s")))


@pytest.mark.parametrize(("name", "secret"), [("sender", "encryption keys"), ("api", "admin key")])
def test_a_stage_without_its_secret_does_not_start(machine: Machine, name: str, secret: str) -> None:
    """It is refused with exit code 2 and one line that names what is missing."""
    service = machine.own(name)
    variables = {one: value for one, value in service["environment"].items() if one not in composed.SECRETS}
    bare = composed.bare({"environment": variables}, machine.folder)
    done = subprocess.run(
        composed.command_of(service), env=bare, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("pipeline:")]
    assert secret in line
    assert "Traceback" not in done.stderr
