"""docs/operations.md says what the code does."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from typer.testing import CliRunner

from pipeline import errors
from pipeline.cli import INTERRUPTED, app
from pipeline.cli._stages import GRACE_S
from pipeline.flow.deadletter import Reason
from pipeline.kafka import feed
from pipeline.settings import _SECRETS, PREFIX, Settings

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def _table(section: str) -> Iterator[list[str]]:
    """The rows of a section's table, cells without their marks."""
    part = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return ([cell.strip().strip("`") for cell in row] for row in rows[2:])


def test_every_setting_is_there_with_its_default() -> None:
    """The table has exactly the variables that are read, and their defaults."""
    known = Settings()
    shown = {bool: lambda value: str(value).lower()}
    expected = {
        PREFIX + field.name.upper(): shown.get(type(value), str)(value)
        for field in fields(Settings)
        if (value := getattr(known, field.name)) is not None and field.name != "kafka"
    }
    expected[f"{PREFIX}INSTANCE_ID"] = "the host's name"
    expected[f"{PREFIX}KAFKA_…"] = ""
    assert known.instance_id == socket.gethostname()
    assert {row[0]: row[1] for row in _table("Settings")} == expected
    assert all(len(row) == 3 and row[2] for row in _table("Settings"))


def test_every_secret_is_called_one() -> None:
    """The variables that may come from a file are the ones marked as secrets."""
    marked = {row[0] for row in _table("Settings") if "secret" in row[2].split("; ")}
    assert marked == {PREFIX + name.upper() for name in _SECRETS} - {f"{PREFIX}API_URL"}


def test_every_reason_is_explained() -> None:
    """The dead letters' whole vocabulary, in its order."""
    assert [row[0] for row in _table("Dead letters")] == [reason.value for reason in Reason]


def test_the_exit_codes_are_the_errors() -> None:
    """Each error's code is in the table, and the interrupt's."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    ]
    codes = {0, 3, INTERRUPTED, *(kind.exit_code for kind in kinds)}
    assert {int(row[0]) for row in _table("Exit codes")} == codes


def test_the_times_are_the_codes() -> None:
    """How long a drain and an absence may take."""
    said = " ".join(TEXT.split())
    assert f"what is under way has {GRACE_S:.0f} s" in said
    assert f"comes back within {feed.SESSION_MS // 1000} s" in said
    assert re.search(r"at least (\d+) s before it is killed", said)


def test_its_commands_are_commands() -> None:
    """Every `pipeline …` in the text is a command that the command line knows."""
    named = set(re.findall(r"`pipeline ([^`]+)`", TEXT))
    assert len(named) >= 7
    for line in named:
        assert CliRunner().invoke(app, [*line.split(), "--help"]).exit_code == 0, line
