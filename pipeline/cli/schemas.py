"""`pipeline schemas`: register the records' schemas, check them against what is registered."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pipeline.errors import PipelineError
from pipeline.kafka import schemas
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True)
_out = Console(highlight=False, soft_wrap=True)

Registry = Annotated[str | None, typer.Option("--schema-registry", help="Its URL, of the Confluent API.")]


@app.command()
def register(schema_registry: Registry = None) -> None:
    """Register every schema, BACKWARD compatible; again does nothing."""
    for subject, number in schemas.register(Settings.read(schema_registry=schema_registry)).items():
        _out.print(f"{subject}\tid {number}")


@app.command()
def check(schema_registry: Registry = None) -> None:
    """Whether this version can read what was written with the registered schemas; exit 1 if not."""
    lines = schemas.check(Settings.read(schema_registry=schema_registry))
    for line in lines:
        _out.print(line.removeprefix("! "))
    if lines:
        raise PipelineError("records could not be read: register the schemas, or use a version that fits them")
    _out.print("all schemas are compatible")
