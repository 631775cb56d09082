"""README.md works word for word: its snippets are taken out and run, in their order, against a running platform."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.embedded.addresses import claim
from pipeline.embedded.leash import Child
from pipeline.settings import Settings
from tests.leashed import leashed, said, told_to_stop
from tests.live_cluster import LiveCluster
from tests.node_packages import Missing, node, node_modules

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
WITHIN_S = 60.0


def _block(language: str, containing: str) -> str:
    (found,) = [code for kind, code in BLOCKS if kind == language and containing in code]
    return found


def _commands() -> list[str]:
    """Every command line of ours in a shell snippet, continued lines joined, comments cut."""
    joined = "\n".join(code for kind, code in BLOCKS if kind == "sh").replace("\\\n", " ")
    return [line.partition("#")[0].strip() for line in joined.splitlines() if line.startswith(".venv/bin/pipeline")]


@pytest.mark.parametrize("line", _commands())
def test_its_commands_are_commands(line: str) -> None:
    """The command line knows every noun, verb and option that is written there."""
    words = shlex.split(line)[1:]
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--no-such-option", "--help"]).exit_code != 0


def test_its_links_and_folders_are_there() -> None:
    """What it points to inside the project exists."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    folders = re.findall(r"`([a-z/]+/)`", TEXT)
    scripts = re.findall(r"\bsh (scripts/\w+)", TEXT)
    assert links
    assert scripts
    assert not [one for one in (*links, *folders, *scripts) if not (ROOT / one).exists()]


def test_its_map_has_every_folder_of_the_product() -> None:
    """No part is left out."""
    parts = {f"pipeline/{path.name}/" for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").exists()}
    assert parts <= set(re.findall(r"`(pipeline/[a-z]+/)`", TEXT))


def test_its_secrets_are_ones_that_can_be_used() -> None:
    """The two commands write a file from which the settings read a key of encryption and one of the API."""
    lines = [line.rpartition(" >")[0].rstrip("> ") for line in _block("sh", "> .env").splitlines()]
    made = [subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout for line in lines]
    settings = Settings.read(dict(line.strip().split("=", 1) for line in made))
    assert [len(key) for _, key in list(settings.keys())] == [32]
    assert len(settings.admin_key) >= 32


@dataclass(frozen=True, slots=True)
class Platform:
    """What `pipeline up` said, the variables of the second terminal, and what the receiver has printed."""

    variables: Mapping[str, str]
    folder: Path
    receiver: Child

    def shell(self, script: str) -> str:
        """Run a shell snippet as it is, but with this environment's program."""
        return self.run(["sh", "-euc", _here(script)])

    def run(self, command: list[str], cwd: Path = ROOT) -> str:
        """Run a program to its end; it must succeed."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.variables}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def arrives(self, order: int) -> None:
        """Wait until the receiver has verified this order."""
        said(self.receiver, rf' verified .*"order": ?{order}\D')


def _here(script: str) -> str:
    return script.replace(".venv/bin/pipeline", f"{shlex.quote(sys.executable)} -m pipeline")


@pytest.fixture(scope="module")
def platform(cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`pipeline up` on the run's broker, and the snippets up to the receiver."""
    folder = tmp_path_factory.mktemp("readme")
    port = claim(0, "the receiver", "")
    up = [sys.executable, "-m", "pipeline", "up", "--data-dir", str(folder)]
    places = ["--bootstrap-server", cluster.bootstrap, "--schema-registry", cluster.registry]
    with leashed("up", [*up, *places], folder, os.environ, ROOT) as running:
        variables = _second_terminal(said(running, "^ready ", 120), folder)
        *commands, receive = _block("sh", "tenants create").replace("\\\n", " ").replace("9000", str(port)).splitlines()
        with leashed("receiver", shlex.split(_here(receive)), folder, {**os.environ, **variables}, ROOT) as receiver:
            made = Platform(variables, folder, receiver)
            made.shell("\n".join(commands))
            yield made
        told_to_stop(running, 60)


def _second_terminal(ready: str, folder: Path) -> dict[str, str]:
    """What the text exports, of the line that says where everything is."""
    places = dict(word.split("=", 1) for word in ready.split()[1:])
    return {
        "BOOTSTRAP": places["bootstrap"],
        "REGISTRY": places["registry"],
        "API": places["api"],
        "KEY": (folder / "admin.key").read_text().strip(),
        "PIPELINE_DATA_DIR": str(folder),
    }


@pytest.mark.kafka
def test_the_second_terminal_knows_the_places(platform: Platform) -> None:
    """The variables that the snippets use are the ones that it exports, and the key's file is where it says."""
    exported = set(re.findall(r"^export (\w+)=", _block("sh", "export KEY"), re.MULTILINE))
    assert exported == platform.variables.keys() - {"PIPELINE_DATA_DIR"}
    (key,) = re.findall(r"cat data/(\S+)\)", _block("sh", "export KEY"))
    assert (platform.folder / key).read_text().strip() == platform.variables["KEY"]


@pytest.mark.kafka
def test_the_python_service(platform: Platform) -> None:
    """The Python snippet's event is delivered and verified."""
    platform.run([sys.executable, "-c", _block("python", "AvroSerializer")])
    platform.arrives(1)


@pytest.mark.kafka
def test_the_node_service(platform: Platform) -> None:
    """The Node snippet's event is delivered and verified, with the packages that the text names."""
    (packages,) = re.findall(r"`npm install ([^`]+)`", TEXT)
    try:
        program, modules = node(), node_modules(*packages.split())
    except Missing as missing:
        pytest.skip(f"README's Node snippet: {missing}")
    (platform.folder / "node_modules").symlink_to(modules)
    script = platform.folder / "shop.mjs"
    script.write_text(_block("js", "kafkajs"))
    platform.run([program, str(script)], platform.folder)
    platform.arrives(2)


@pytest.mark.kafka
def test_the_rest_service(platform: Platform) -> None:
    """The REST snippet's event is delivered and verified."""
    if shutil.which("curl") is None:
        pytest.skip("README's REST snippet: curl is not installed")
    platform.shell(_block("sh", "curl"))
    platform.arrives(3)


@pytest.fixture(scope="module")
def demo(cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`sh scripts/run` on the run's broker; the folder in which it keeps its own."""
    folder = tmp_path_factory.mktemp("again")
    places = ["--bootstrap-server", cluster.bootstrap, "--schema-registry", cluster.registry]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with leashed("demo", [sys.executable, "-m", "pipeline", "demo", *places], folder, environment, ROOT) as running:
        said(running, "look around from another terminal", 120)
        yield folder
        told_to_stop(running, 60)


@pytest.mark.kafka
@pytest.mark.replay
def test_history_comes_back(demo: Path) -> None:
    """Dead letters of a broken receiver are seen and redriven, and a second webhook gets the last minutes."""
    port = claim(0, "the second receiver", "")
    parts = [_block("sh", words) for words in ("echo 500", 'rm "$PIPELINE_DATA_DIR', "replays start")]
    script = "trap 'kill $!' EXIT\n" + "echo '= part'\n".join(parts).replace("9001", str(port))
    environment = {"PATH": os.environ["PATH"], "HOME": str(demo), "TMPDIR": str(demo)}
    done = subprocess.run(
        ["sh", "-euc", _here(script)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    broken, repaired, again = done.stdout.split("= part\n")
    assert broken.count("rejected") >= 2
    assert "REFUSED" not in again
    assert len(re.findall(r" verified .*\"type\"", again)) >= 4
    assert re.search(r"rpl_\w+ +standard-demo +done", again)
    assert re.search(r"^state +done", repaired, re.MULTILINE)
    assert int(re.search(r"^deliveries +(\d+)", repaired, re.MULTILINE)[1]) >= 2  # type: ignore[index]
