"""What a process tells its operator: whether it lives, whether it is ready, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

if TYPE_CHECKING:
    from types import TracebackType

NotReady = Callable[[], list[str]]
"""Why the process is not ready to work, one sentence each; empty when it is."""
Warnings = Callable[[], list[str]]
"""What its operator should see to, though it works."""


class HealthServer:
    """`/healthz`.

    200 while the event loop runs. `/readyz`: 200, or 503 with the reasons; either with what it warns of. `/metrics`:
    Prometheus's text format.

    ``async with HealthServer("127.0.0.1", 0, not_ready, registry) as server: server.port``. It has no authentication
    and tells no secrets; it binds the loopback unless told otherwise. Raises OSError if the port is taken.
    """

    def __init__(
        self, host: str, port: int, not_ready: NotReady, registry: CollectorRegistry, warnings: Warnings = list
    ) -> None:
        self.host = host
        self.port = port
        self._not_ready, self._warnings = not_ready, warnings
        self._registry = registry
        app = web.Application()
        app.add_routes(
            [web.get("/healthz", _healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = int(self._runner.addresses[0][1])  # the one that was free, if 0 was asked for
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = self._not_ready()
        said = {"ready": not reasons, "reasons": reasons, "warnings": self._warnings()}
        return web.json_response(said, status=503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"alive": True})
