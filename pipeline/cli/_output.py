"""What commands write: tables for people, JSON for programs, both on stdout; progress and asides on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 10_000


class Format(StrEnum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def rows(items: Iterable[dict[str, Any]], columns: Sequence[str], output: Format) -> None:
    """A list: a table of these columns, one JSON array, or one JSON object a line."""
    match output:
        case Format.TABLE:
            _table(items, columns)
        case Format.JSON:
            _line(json.dumps(list(items), indent=2, ensure_ascii=False))
        case Format.JSONL:
            for item in items:
                line(item)


def record(item: dict[str, Any], output: Format) -> None:
    """One thing: its fields below each other, or as JSON."""
    match output:
        case Format.TABLE:
            _fields(item)
        case Format.JSON:
            _line(json.dumps(item, indent=2, ensure_ascii=False))
        case Format.JSONL:
            line(item)


def record_with(item: dict[str, Any], inner: str, columns: Sequence[str], output: Format) -> None:
    """One thing that holds a list: its other fields, then the list as a table; or all of it as JSON."""
    if output is not Format.TABLE:
        record(item, output)
        return
    record({name: value for name, value in item.items() if name != inner}, output)
    rows(item[inner], columns, output)


def line(item: dict[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    _line(json.dumps(item, ensure_ascii=False))


def text(words: str) -> None:
    """A line of text on stdout, at once."""
    _line(words)


def aside(words: str) -> None:
    """A line on stderr: progress, and what is no data."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - the command's own voice


def command(words: str) -> str:
    """A command of this program as it can be typed here: installed beside this Python it need not be on the PATH."""
    beside = Path(sys.executable).with_name("pipeline")
    if shutil.which("pipeline") is not None or not beside.exists():
        return f"pipeline {words}"
    here = Path.cwd()
    return f"{beside.relative_to(here) if beside.is_relative_to(here) else beside} {words}"


def cell(value: Any) -> str:
    """A value in a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(cell, value)) or "-"
        case dict():
            return ", ".join(f"{name}={cell(inner)}" for name, inner in value.items()) or "-"
    return str(value)


def _table(items: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    from rich.table import Table  # noqa: PLC0415 - for people only, and slow to load
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")
    for item in items:
        table.add_row(*(Text(cell(item.get(column))) for column in columns))
    _print(table)


def _fields(item: dict[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in item.items():
        table.add_row(name.replace("_", " "), Text(cell(value)))
    _print(table)


def _print(table: Table) -> None:
    """As wide as the terminal; into a pipe or a file as wide as it is, so that a line is a row."""
    from rich.console import Console  # noqa: PLC0415 - as above

    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)


def _line(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the data
