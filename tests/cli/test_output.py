"""What commands print for people."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.cli import _output
from pipeline.cli._output import Format


def test_into_a_pipe_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """However much a row holds, a program that reads lines gets it whole."""
    items = [{"id": "i" * 300, "event": "e" * 300, "type": "a b " * 100}]
    _output.rows(items, ("id", "event", "type"), Format.TABLE)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "event", "type"]
    assert row.split()[:2] == ["i" * 300, "e" * 300]


def test_a_terminal_never_cuts_an_id(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal what can be copied stays in one piece."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    _output.rows([{"id": "msg_" + "A" * 26, "event": "order-1-" * 9}], ("id", "event"), Format.TABLE)
    assert "msg_" + "A" * 26 in capsys.readouterr().out


def test_a_command_can_be_typed_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name where the PATH leads to it; else by its place, from here if that is below."""
    beside = tmp_path / "env" / "bin" / "pipeline"
    beside.parent.mkdir(parents=True)
    beside.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _output.command("status") == f"{beside} status"
    monkeypatch.chdir(tmp_path)
    assert _output.command("status") == "env/bin/pipeline status"
    monkeypatch.setenv("PATH", str(beside.parent))
    assert _output.command("status") == "pipeline status"
    beside.unlink()
    assert _output.command("status") == "pipeline status"
