"""What commands print for people."""

from __future__ import annotations

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
