"""`pipeline config`: the settings in force."""

from __future__ import annotations

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Output
from pipeline.cli._output import Format
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The settings in force.")


@app.callback()
def _config() -> None:
    """The settings in force."""


@app.command()
def show(output: Output = Format.TABLE, data_dir: DataDir = None) -> None:
    """Every setting and its value; secrets as ***."""
    masked = Settings.read(data_dir=data_dir).masked()
    if output is Format.TABLE:
        listed = [{"setting": name, "value": value or None} for name, value in masked.items()]
        _output.rows(listed, ("setting", "value"), output)
    else:
        _output.record(dict(masked), output)
