"""The API's process."""

from __future__ import annotations

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from pipeline.api.serve import serve
from pipeline.cli._until_told import told_to_stop
from pipeline.http.health import HealthServer
from pipeline.settings import Settings

_log = structlog.get_logger()


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop. Raises `Fenced` when a newer API process has taken over the writing."""
    uvloop.run(_run(settings, host, port))


async def _run(settings: Settings, host: str, port: int) -> None:
    reasons = ["starting"]

    def ready(url: str) -> None:
        reasons.clear()
        _log.info("serving", url=url)

    told, metrics = told_to_stop(), CollectorRegistry()
    async with HealthServer(settings.health_host, settings.health_port, lambda: reasons, metrics):
        await serve(settings, told, ready, host=host, port=port)
