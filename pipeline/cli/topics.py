"""`pipeline topics`: make Kafka's topics, list them, check them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pipeline.errors import PipelineError
from pipeline.kafka import topics
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True)
_out = Console(highlight=False, soft_wrap=True)

Bootstrap = Annotated[str | None, typer.Option("--bootstrap-server", help="Kafka, as HOST:PORT[,HOST:PORT…].")]


@app.command()
def create(
    bootstrap_server: Bootstrap = None,
    partitions: Annotated[int, typer.Option(help="Fixed once a topic is made.", min=1)] = 12,
    replication: Annotated[int, typer.Option(help="Copies of each partition.", min=1)] = 1,
) -> None:
    """Make the topics that are missing, and start every group at the beginning of each new one."""
    made = topics.create(Settings.read(bootstrap_servers=bootstrap_server), partitions, replication)
    for name in made:
        _out.print(f"created {name}")
    if not made:
        _out.print("all topics are there")


@app.command(name="list")
def show(bootstrap_server: Bootstrap = None) -> None:
    """The topics of the flow that are there, with their partitions."""
    settings = Settings.read(bootstrap_servers=bootstrap_server)
    there = topics.existing(topics.admin(settings))
    for topic in topics.known(settings, there):
        _out.print(f"{topic}\t{there[topic]}")


@app.command()
def check(bootstrap_server: Bootstrap = None) -> None:
    """Say what differs from what the flow needs; exit 1 if it cannot work so."""
    lines = topics.check(Settings.read(bootstrap_servers=bootstrap_server))
    for line in lines:
        _out.print(line.removeprefix("! "))
    if failures := [line for line in lines if line.startswith("!")]:
        raise PipelineError(f"{len(failures)} of these must be mended")
    if not lines:
        _out.print("all is as it should be")
