"""The image's recipe, as far as it can be checked without building it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.settings import PREFIX, Settings
from tests.deploy.composed import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Line(NamedTuple):
    """One instruction: the stage that it belongs to, from 0, its word, and what follows."""

    stage: int
    word: str
    rest: str


def _lines() -> Iterator[Line]:
    stage = -1
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if not line or word.startswith("#"):
            continue
        stage += word == "FROM"
        yield Line(stage, word, rest)


LINES = list(_lines())
LAST = [line for line in LINES if line.stage == max(one.stage for one in LINES)]


def _only(word: str) -> str:
    (found,) = [line.rest for line in LAST if line.word == word]
    return found


def _copied() -> list[str]:
    """What is copied from the project's folder."""
    copies = [line.rest.split() for line in LINES if line.word == "COPY" and "--from" not in line.rest]
    return [source for copy in copies for source in copy[:-1]]


def test_it_runs_as_nobody_in_particular() -> None:
    """The last stage names a user by number, not root, and nothing is run as root after that."""
    user = _only("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    after = [line.word for line in LAST[[line.word for line in LAST].index("USER") :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)
    assert f"--uid {user.split(':')[0]}" in " ".join(line.rest for line in LAST if line.word == "RUN")


def test_it_has_two_stages_of_one_pinned_python() -> None:
    """The compiler stays behind; both have the same version of Python and Debian, one that the project supports."""
    build, run = (line.rest.split()[0] for line in LINES if line.word == "FROM")
    version, system = re.fullmatch(r"python:(\d\.\d+)-([a-z]+)", build).groups()  # type: ignore[union-attr]
    assert run == f"python:{version}-slim-{system}"
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_it_installs_the_locked_packages() -> None:
    """Every package by its hash from the list of the image, then the project without resolving anything."""
    installs = [line.rest for line in LINES if line.word == "RUN" and "pip install" in line.rest]
    assert installs == [
        "pip install --require-hashes --requirement requirements/image.txt",
        "pip install --no-deps --no-build-isolation .",
    ]
    assert "requirements/image.txt" in _copied()


def test_the_image_holds_no_broker() -> None:
    """What runs the embedded broker and registry is not among the image's packages; what runs the stages is."""
    listed = (ROOT / "requirements" / "image.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9-]+)==", listed, re.MULTILINE))
    embedded = {re.split(r"[=<>]", one)[0] for one in PROJECT["project"]["optional-dependencies"]["embedded"]}
    needed = {re.split(r"[\[=<>]", one)[0] for one in PROJECT["project"]["dependencies"]}
    assert not names & embedded
    assert needed <= names
    assert len(re.findall(r"^[a-z0-9-]+==", listed, re.MULTILINE)) <= listed.count("--hash=sha256:")


def _imported(path: Path) -> set[str]:
    """The top-level names of the modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in whole | parts}


def test_the_image_holds_what_is_imported() -> None:
    """Every package that the product's modules import, but those of the embedded broker, is on the image's list."""
    files = [path for path in (ROOT / "pipeline").rglob("*.py") if path.parent.name != "embedded"]
    foreign = set().union(*map(_imported, files)) - sys.stdlib_module_names - {"pipeline"}
    offered = packages_distributions()
    listed = "\n" + (ROOT / "requirements" / "image.txt").read_text(encoding="utf-8")
    assert "confluent_kafka" in foreign
    assert not [name for name in sorted(foreign) if not any(f"\n{_plain(one)}==" in listed for one in offered[name])]


def _plain(name: str) -> str:
    """A distribution's name as lists write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_starts_the_command_line() -> None:
    """The entry point is the project's script in exec form, so that signals reach it."""
    (entry,) = json.loads(_only("ENTRYPOINT"))
    assert entry in PROJECT["project"]["scripts"]
    assert json.loads(_only("CMD")) == ["--help"]


def test_its_variables_are_settings() -> None:
    """What it presets is known to the code."""
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    assert set(re.findall(r"PIPELINE_\w+", " ".join(line.rest for line in LAST))) <= known


def test_what_it_copies_is_let_through() -> None:
    """All that is copied is here, and the ignore file excludes everything else."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert {source.split("/")[0] for source in _copied()} == allowed
    assert not [source for source in _copied() if not (ROOT / source).exists()]


def test_what_it_copies_is_enough_to_build(tmp_path: Path) -> None:
    """The project can be built from just these files, and the result holds schemas and examples."""
    for source in _copied():
        target = tmp_path / "context" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=tmp_path / "context", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"pipeline/cli/run.py", "pipeline/schemas/event.avsc", "pipeline/examples/qase/case.created.json"} <= names
    assert not [name for name in names if name.startswith("tests/")]


@pytest.mark.parametrize("word", ["ADD", "MAINTAINER"])
def test_it_uses_no_instruction_that_surprises(word: str) -> None:
    """`ADD` fetches and unpacks; `MAINTAINER` is gone."""
    assert not [line for line in LINES if line.word == word]
