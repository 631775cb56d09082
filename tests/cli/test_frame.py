"""What holds for every command: exit codes, one line for what is wrong, quick starts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.cli
from pipeline.errors import Fenced, PipelineError, Unreachable, UsageError
from tests.api.parts import Parts
from tests.cli.conftest import Command
from tests.prepared import ADMIN_KEY


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["--nonsense"], "No such option: --nonsense"),
        (["tenants", "nonsense"], "No such command"),
        (["tenants", "create"], "Missing argument"),
        (["tenants", "list", "--limit", "x"], "valid integer"),
        (["tenants", "list", "-o", "yaml"], "yaml"),
        (["tenants", "update", "acme"], "nothing to change"),
        (["webhooks", "update", "acme", "wh_1"], "nothing to change"),
        (["webhooks", "create", "acme", "--header", "no colon"], "write 'Name: value'"),
        (["events", "send", "acme"], "--type and --data, or --file"),
        (["events", "send", "acme", "--type", "a", "--data", "{"], "--data is not JSON"),
        (["events", "send", "acme", "--file", "nowhere.json"], "nowhere.json cannot be read"),
        (["events", "send", "acme", "--file", "-", "--type", "a"], "either --file or"),
        (["events", "tail", "--from", "yesterday"], "--from 'yesterday'"),
        (["events", "tail"], "--bootstrap-server"),
        (["tenants", "list"], "no API"),
        (["tenants", "list", "--api-url", "http://127.0.0.1:1"], "no key"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_exit_2(command: Command, arguments: list[str], words: str) -> None:
    """A mistake in the command is one line on stderr that says what is wrong, exit code 2, and no traceback."""
    assert words in command.refused(*arguments)


@pytest.mark.parametrize(("error", "code"), [(UsageError, 2), (PipelineError, 1), (Unreachable, 1), (Fenced, 78)])
def test_errors_have_their_exit_codes(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: type[PipelineError], code: int
) -> None:
    """Every error that we can name ends the command with its own code and one line, whatever its text holds."""

    def fail(*_args: object, **_more: object) -> None:
        raise error("first line\nsecond line")

    monkeypatch.setattr(pipeline.cli, "app", fail)
    assert command.refused("anything", code=code) == "first line second line"


def test_an_interrupt_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command with 130 and without a word."""

    def interrupted(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.cli, "app", interrupted)
    said = command("anything")
    assert (said.code, said.out, said.err) == (130, "", "")


def test_an_api_that_does_not_answer_is_exit_1(command: Command) -> None:
    """An API that is away is a failure, not a refusal."""
    said = command.refused("tenants", "list", "--api-url", "http://127.0.0.1:1", "--api-key", "k", code=1)
    assert "http://127.0.0.1:1 does not answer" in said


def test_every_noun_has_its_commands(command: Command) -> None:
    """`--help` lists every noun with a line, and each noun its commands."""
    whole = command("--help")
    assert whole.code == 0
    for noun in pipeline.cli.NOUNS:
        assert noun.name in whole.out
        said = command(noun.name, "--help")
        assert (said.code, "Usage: pipeline" in said.out) == (0, True), noun.name


def test_the_process_itself_ends_so(tmp_path: Path) -> None:
    """As a process of its own the command ends with the same code, the line on stderr and nothing on stdout."""
    done = subprocess.run(
        (sys.executable, "-m", "pipeline", "tenants", "list"), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_help_and_refusals_load_no_frameworks() -> None:
    """A command loads what it needs: help and the frame know neither FastAPI nor Kafka nor an HTTP client."""
    heavy = ("fastapi", "confluent_kafka", "httpx", "faust", "aiohttp", "cryptography")
    code = f"""
import sys
from pipeline.cli import invoke
invoke(["tenants", "list"])
import pipeline.cli.webhooks, pipeline.cli.events, pipeline.cli.profiles, pipeline.cli.config
print([name for name in {heavy!r} if name in sys.modules])
"""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, env=variables, check=True)
    assert done.stdout.strip() == "[]"


def test_the_api_of_up_is_found_in_the_data_directory(served: tuple[str, Parts], command: Command) -> None:
    """Under `up` neither URL nor key need be given: both are in the data directory."""
    folder = Path("elsewhere")
    folder.mkdir()
    kept = folder / "api.json"
    kept.write_text(json.dumps({"url": served[0], "key": ADMIN_KEY}), encoding="utf-8")
    kept.chmod(stat.S_IRUSR)
    assert command("profiles", "list", "--data-dir", "elsewhere").code == 0
    kept.chmod(stat.S_IRUSR | stat.S_IWUSR)
    kept.write_text("{", encoding="utf-8")
    assert "cannot be read" in command.refused("profiles", "list", "--data-dir", "elsewhere")


def test_a_flag_wins_over_the_environment(api: Command, served: tuple[str, Parts]) -> None:
    """A key on the command line is used instead of the one in the environment; the API's refusal is exit code 2."""
    assert "valid key" in api.refused("profiles", "list", "--api-key", "wrong")
    assert api("profiles", "list", "--api-url", served[0]).code == 0


def test_config_show_masks_secrets(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is shown, none of its secrets."""
    monkeypatch.setenv("PIPELINE_ADMIN_KEY", "canary-5")
    monkeypatch.setenv("PIPELINE_KAFKA_SASL_PASSWORD", "canary-5")
    monkeypatch.setenv("PIPELINE_BOOTSTRAP_SERVERS", "broker:9092")
    for output in ("table", "json", "jsonl"):
        said = command("config", "show", "-o", output)
        assert "canary-5" not in said.out + said.err
        assert "broker:9092" in said.out
    assert command("config", "show", "-o", "json").json["admin_key"] == "***"
