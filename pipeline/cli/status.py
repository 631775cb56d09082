"""`pipeline status`: how each stage keeps up."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import Bootstrap, DataDir, Output, with_kafka
from pipeline.cli._output import Format
from pipeline.cli.run import STAGES
from pipeline.kafka.age import unread_warning
from pipeline.kafka.lag import GroupLag, measure
from pipeline.kafka.topics import admin
from pipeline.settings import Settings

app = typer.Typer()

COLUMNS = ("stage", "group", "members", "lag_records", "lag_seconds", "per_second")


@app.command()
def status(
    *,
    output: Output = Format.TABLE,
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds over which the rate is taken.")] = 2.0,
    bootstrap_server: Bootstrap = None,
    data_dir: DataDir = None,
) -> None:
    """Show each stage's consumer group: its members, how far it is behind, and how fast it goes.

    `lag_records` is what is not finished yet; `lag_seconds` the age of the oldest of it (in the delay stage: how long
    it has been due; what replays have written is due at once, and goes as fast as it is let in). `per_second` is what
    was committed during the interval; groups commit once a second. A warning says that events will be lost unless they
    are read soon.
    """
    settings = with_kafka(Settings.read(bootstrap_servers=bootstrap_server, data_dir=data_dir))
    lags = measure(settings, [f"pipeline-{stage}" for stage in STAGES], interval)
    warning = unread_warning(settings, admin(settings), time.time() * 1000)
    rows = [_row(stage, lag, warning) for stage, lag in zip(STAGES, lags, strict=True)]
    _output.rows(rows, COLUMNS, output)
    if warning:
        _output.aside(f"warning: {warning}")


def _row(stage: str, lag: GroupLag, unread: str | None) -> dict[str, Any]:
    return {
        "stage": stage,
        "group": lag.group,
        "members": lag.members,
        "lag_records": lag.records,
        "lag_seconds": lag.seconds,
        "per_second": lag.per_second,
        "warning": unread if stage == "router" else None,
        "topics": [
            {"topic": topic.topic, "lag_records": topic.records, "lag_seconds": topic.seconds} for topic in lag.topics
        ],
    }
