"""`pipeline run ROLE`: one process of a role."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._logs import configure
from pipeline.errors import UsageError
from pipeline.faults import Faults
from pipeline.settings import Settings

app = typer.Typer()

STAGES = ("router", "sender", "delay", "recorder")
ROLES = (*STAGES, "api")


@app.command(no_args_is_help=True)
def command(  # noqa: PLR0917 - Typer's options
    role: Annotated[str, typer.Argument(help="router, sender, delay, recorder or api.")],
    start: Annotated[str, typer.Option("--from", help="earliest, latest or a time: for a group without offsets.")] = "",
    health_port: Annotated[int | None, typer.Option(help="/healthz, /readyz, /metrics; 0: any free one.")] = None,
    bootstrap_server: Annotated[str | None, typer.Option(help="Kafka, as HOST:PORT[,HOST:PORT…].")] = None,
    schema_registry: Annotated[str | None, typer.Option(help="The registry's URL, of its Confluent API.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the slots of static members are locked.")] = None,
    host: Annotated[str, typer.Option(help="api: the address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="api: the port to listen on; 0: any free one.")] = 8080,
) -> None:
    """Run one process of a role until SIGTERM or Ctrl-C, then drain."""
    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}: {', '.join(ROLES)}")
    settings = Settings.read(
        health_port=health_port,
        bootstrap_servers=bootstrap_server,
        schema_registry=schema_registry,
        data_dir=data_dir,
    )
    settings.require("bootstrap_servers", "schema_registry")
    Faults.of(settings)
    configure(settings.log_level)
    if role in STAGES:
        import_module("pipeline.cli._stages").run(settings, role, start or None)
    else:
        import_module("pipeline.cli._api").run(settings, host, port)
