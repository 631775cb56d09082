"""The API's process."""

from __future__ import annotations

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from pipeline.api.serve import Serving, serve
from pipeline.cli._until_told import told_to_stop
from pipeline.http.health import HealthServer
from pipeline.settings import Settings

_log = structlog.get_logger()


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop. Raises `Fenced` when a newer API process has taken over the writing."""
    uvloop.run(_run(settings, host, port))


async def _run(settings: Settings, host: str, port: int) -> None:
    told, started = told_to_stop(), Started()
    tells = started.not_ready, CollectorRegistry(), started.warnings
    async with HealthServer(settings.health_host, settings.health_port, *tells):
        await serve(settings, told, started, host=host, port=port)


class Started:
    """Knows why the API is not ready: it is starting, or what its parts say."""

    def __init__(self) -> None:
        self._serving: Serving | None = None

    def __call__(self, serving: Serving) -> None:
        """Requests are answered from now on."""
        self._serving = serving
        _log.info("serving", url=serving.url)

    def not_ready(self) -> list[str]:
        """One sentence for each reason."""
        return ["starting"] if self._serving is None else self._serving.deps.not_ready()

    def warnings(self) -> list[str]:
        """What its operator should see to, though it works."""
        warning = self._serving and self._serving.deps.sealing.warning
        return [warning] if warning else []
