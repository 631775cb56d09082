"""`pipeline up`: everything on one machine, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import _output
from pipeline.cli._platform import LOCAL, Plan, platform, ready_line
from pipeline.cli._until_told import until_told
from pipeline.settings import Settings

app = typer.Typer()

KafkaPort = Annotated[int, typer.Option("--kafka-port", min=0, max=65_535, help="The broker's; 0: any free one.")]
RegistryPort = Annotated[
    int, typer.Option("--registry-port", min=0, max=65_535, help="The registry's; 0: any free one.")
]
ApiPort = Annotated[int, typer.Option("--api-port", min=0, max=65_535, help="The API's; 0: any free one.")]
Routers = Annotated[int, typer.Option("--routers", min=1, max=64, help="How many router processes.")]
Senders = Annotated[int, typer.Option("--senders", min=1, max=64, help="How many sender processes.")]
Recorders = Annotated[int, typer.Option("--recorders", min=0, max=64, help="How many recorder processes.")]
Replayers = Annotated[int, typer.Option("--replayers", min=0, max=64, help="How many replayer processes.")]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-server",
        help="A Kafka that runs already, instead of our own. [env: PIPELINE_BOOTSTRAP_SERVERS]",
        show_default=False,
    ),
]
Registry = Annotated[
    str | None,
    typer.Option(
        "--schema-registry",
        help="The registry of that Kafka, the URL of its Confluent API. [env: PIPELINE_SCHEMA_REGISTRY]",
        show_default=False,
    ),
]


@app.command()
def up(  # noqa: PLR0917 - Typer's options
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Records, schemas, keys and logs; ./data by default. [env: PIPELINE_DATA_DIR]"),
    ] = None,
    kafka_port: KafkaPort = 0,
    registry_port: RegistryPort = 0,
    api_port: ApiPort = 0,
    routers: Routers = 1,
    senders: Senders = 1,
    recorders: Recorders = 1,
    replayers: Replayers = 1,
    bootstrap_server: Bootstrap = None,
    schema_registry: Registry = None,
) -> None:
    """Run broker, registry, router, sender, delay, recorder, replayer and API on this machine, and keep them running.

    When all is ready one line on stdout says where: `ready bootstrap=HOST:PORT registry=URL api=URL data=DIR`. SIGTERM
    (exit code 0) and Ctrl-C (130) drain and stop everything; a second one stops at once. What was delivered, what
    waits and all keys stay in the data directory.
    """
    settings = Settings.read(
        {**LOCAL, **os.environ},
        data_dir=data_dir,
        bootstrap_servers=bootstrap_server,
        schema_registry=schema_registry,
    )
    plan = Plan(settings, kafka_port, registry_port, api_port, routers, senders, recorders, replayers)
    raise typer.Exit(until_told(partial(_up, plan)))


async def _up(plan: Plan) -> int:
    async with platform(plan, _output.aside) as running:
        _output.text(ready_line(running))
        await asyncio.Event().wait()
    return 0
