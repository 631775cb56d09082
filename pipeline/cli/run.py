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

STAGES = ("router", "sender", "delay", "recorder", "replayer")
ROLES = (*STAGES, "api")
_OURS = "pipeline-"


@app.command(no_args_is_help=True)
def command(  # noqa: PLR0917 - Typer's options
    role: Annotated[str, typer.Argument(help="router, sender, delay, recorder, replayer or api.")],
    start: Annotated[str, typer.Option("--from", help="earliest, latest or a time: for a group without offsets.")] = "",
    group: Annotated[str, typer.Option(help="router: a group of your own, which reads events again; with --to.")] = "",
    to: Annotated[str, typer.Option(help="router: where that group's deliveries go, such as deliveries-replay.")] = "",
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
    _check_by_hand(role, group, to)
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
        import_module("pipeline.cli._stages").run(settings, role, start or None, group, to)
    else:
        import_module("pipeline.cli._api").run(settings, host, port)


def _check_by_hand(role: str, group: str, to: str) -> None:
    if not group and not to:
        return
    if role != "router" or not (group and to):
        raise UsageError("--group and --to are the router's, and go together: who reads again, and where it writes to")
    if group.startswith(_OURS):
        raise UsageError(f"--group {group}: names with {_OURS} are the flow's own; never set one of those back")
