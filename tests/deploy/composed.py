"""The Compose file as Docker Compose reads it, and its services as plain processes on loopback.

Nothing of a service is invented here: variables, commands and health checks are the file's own. Only what a container
would have of itself is put in their place: its addresses, its ports and the folder of its volume.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.embedded import artifacts
from pipeline.embedded.java import find_java
from pipeline.embedded.leash import Child
from tests.leashed import leashed

ROOT = Path(__file__).parents[2]
SECRETS = {
    "PIPELINE_ENCRYPTION_KEYS": "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "PIPELINE_ADMIN_KEY": "adm_test",
}
"""What whoever starts it must give."""

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:-|:\?)(?P<text>[^}]*))?\})")
_READY_S = 90.0
_JVM = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Small and quick to start; what the images give their machines is another matter."""
_LOOK_S = 0.1


class Required(Exception):
    """A variable that must be given is not: the file's own message."""


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`, as the Compose specification defines them."""

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if found := given.get(match["name"], ""):
            return found
        if match["how"] == ":?":
            raise Required(f"{match['name']}: {match['text']}")
        return match["text"] or ""

    return _VARIABLE.sub(value, text)


def read(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file, with variables put in (raises `Required`); as it is written when none are given."""
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = raw if given is None else _deep(raw, given)
    return found


def _deep(node: Any, given: Mapping[str, str]) -> Any:
    match node:
        case str():
            return interpolated(node, given)
        case dict():
            return {key: _deep(value, given) for key, value in node.items()}
        case list():
            return [_deep(value, given) for value in node]
    return node


def placed(node: Any, places: Mapping[str, str]) -> Any:
    """The same with texts replaced: a container's addresses by those of this machine."""
    match node:
        case str():
            for name, place in places.items():
                node = node.replace(name, place)
            return node
        case dict():
            return {key: placed(value, places) for key, value in node.items()}
        case list():
            return [placed(value, places) for value in node]
    return node


def command_of(service: Mapping[str, Any]) -> list[str]:
    """What the container runs: the image's entry point, or the service's own, with its command."""
    return [*service.get("entrypoint", ["pipeline"]), *service["command"]]


def bare(service: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The service's variables, a path to this environment's programs, and nothing else."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(folder), "PIPELINE_DATA_DIR": str(folder), **service.get("environment", {})}


@contextmanager
def started(command: list[str], service: Mapping[str, Any], folder: Path) -> Iterator[Child]:
    """A process in the service's bare environment and a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with leashed(folder.name, command, folder, bare(service, folder), folder) as child:
        yield child


def await_healthy(service: Mapping[str, Any], child: Child, folder: Path) -> None:
    """Run the service's own health check until it passes. Fails when the process ends or takes too long."""
    check, until = service["healthcheck"]["test"], time.monotonic() + _READY_S
    assert check[0] == "CMD"
    while (done := subprocess.run(check[1:], env=bare(service, folder), capture_output=True, check=False)).returncode:
        code = child.code()
        assert code is None, f"it ended with {code}: {child.last_words(30)}"
        assert time.monotonic() < until, f"not healthy: {done.stderr.decode()[-1000:]}; {child.last_words(30)}"
        time.sleep(_LOOK_S)


def kafka_command(service: Mapping[str, Any], folder: Path) -> list[str]:
    """Do what Kafka's image does at its start: its own tool makes the settings of the variables, and formats."""
    java = [str(find_java()), *_JVM, "-cp", ":".join(map(str, _programs().kafka_classpath))]
    settings = _settings_folders(folder)
    options = [part for name, path in settings.items() for part in (f"--{name}-configs-dir", str(path))]
    environment = {"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", **bare(service, folder)}  # the image's own default
    setup = [*java, "kafka.docker.KafkaDockerWrapper", "setup", *options]
    done = subprocess.run(setup, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [*java, "kafka.Kafka", str(settings["final"] / "server.properties")]


def _settings_folders(folder: Path) -> dict[str, Path]:
    folders = {name: folder / name for name in ("default", "mounted", "final")}
    for path in folders.values():
        path.mkdir(parents=True)
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folders["default"] / name).touch()
    return folders


def registry_command(port: int) -> list[str]:
    """The registry's program, which its image starts, on this port."""
    where = {"quarkus.http.host": "127.0.0.1", "quarkus.http.port": port, "quarkus.management.port": 0}
    options = [f"-D{name}={value}" for name, value in where.items()]
    return [str(find_java()), *_JVM, *options, "-jar", str(_programs().registry_jar)]


def _programs() -> artifacts.Programs:
    return artifacts.programs(lambda _line: None)
