"""What happens to every request, whatever it asks for: its size, its faults, its measure."""

from __future__ import annotations

import time
import traceback
from http import HTTPStatus
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.problems import response

MAX_BODY = 5 * 1024 * 1024
"""Bytes: a batch of events."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOO_LARGE = f"The body holds more than {MAX_BODY} bytes"
_OURS = "This is a fault of ours; nothing is known to have been changed."
_log = structlog.get_logger()


class Meter:
    """Times every request by operation and status; answers a fault of ours with 500, logged without what was sent."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._seconds = Histogram(
            "pipeline_api_request_seconds",
            "Requests to the REST API",
            ("operation", "status"),
            registry=registry,
            buckets=_BUCKETS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - told to the client as 500, and to the operator
            _log.error("fault", error=type(error).__name__, at=_where(error), operation=_operation(scope))
            if not status:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                await response(status, _OURS)(scope, receive, send)
        self._seconds.labels(_operation(scope), str(int(status))).observe(time.perf_counter() - started)


class Body:
    """Refuses a body over the limit (413), as early as it is known. Whatever a body is called, it is read as JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        whole = await _read(receive)
        if whole is None:
            refused = response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, headers={"Connection": "close"})
            await refused(scope, receive, send)
            return
        headers = [header for header in scope["headers"] if header[0] != b"content-type"]
        scope["headers"] = [*headers, (b"content-type", b"application/json")]
        await self._app(scope, _Replay(whole, receive), send)


class _Replay:
    """Gives the body that was read, then what else comes (the client's leaving)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None as soon as it is larger than the limit."""
    chunks, size, more = [], 0, True
    while more:
        message: Any = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
        if size > MAX_BODY:
            return None
    return b"".join(chunks)


def _operation(scope: Scope) -> str:
    return getattr(scope.get("route"), "operation_id", None) or "none"


def _where(error: BaseException) -> list[str]:
    """Files, lines and functions; never the error's words, which may repeat what was sent."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-8:]]
