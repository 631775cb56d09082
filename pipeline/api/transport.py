"""What happens to every request, whatever it asks for: its size, its faults, its measure."""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Histogram
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.problems import response

MAX_BODY = 5 * 1024 * 1024
"""Bytes: a batch of events."""

MAX_HELD = 64 * 1024 * 1024
"""Bytes of bodies that are worked on at the same time, at most; each request counts as `_REQUEST` more."""
_REQUEST = 32 * 1024

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOO_LARGE = f"The body holds more than {MAX_BODY} bytes"
_BUSY = "There is more to do than can be done: nothing has been changed; try again a little later"
_PATIENCE_S = 30.0
"""How long a body may take to come: whoever sends slower than that keeps others out."""
_TOO_SLOW = f"The body has not come within {_PATIENCE_S:.0f} s"
_CLOSE = {"Connection": "close"}
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
    """Refuses a body over the limit (413), as early as it is known. Whatever a body is called, it is read as JSON.

    What is under way is bounded: of a flood, what is beyond it gets 503 and takes no memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            refused = await self._take(body)
            if refused is not None:
                await refused(scope, receive, send)
                return
            headers = [header for header in scope["headers"] if header[0] != b"content-type"]
            scope["headers"] = [*headers, (b"content-type", b"application/json")]
            await self._app(scope, _Replay(body.whole(), receive), send)
        finally:
            self._held -= body.held

    async def _take(self, body: _Body) -> Response | None:
        """Read the whole body; or the refusal, as soon as it is known."""
        self._held += body.held
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while body.more and body.size <= MAX_BODY and self._held <= MAX_HELD:
                    self._held += await body.read()
        except TimeoutError:
            return response(HTTPStatus.REQUEST_TIMEOUT, _TOO_SLOW, headers=_CLOSE)
        if body.size > MAX_BODY:
            return response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, headers=_CLOSE)
        if self._held > MAX_HELD:
            return response(HTTPStatus.SERVICE_UNAVAILABLE, _BUSY, headers={**_CLOSE, "Retry-After": "1"})
        return None


@dataclass(slots=True)
class _Body:
    """A body while it is read. `held` is what it counts for."""

    receive: Receive
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    held: int = _REQUEST
    more: bool = True

    async def read(self) -> int:
        """One more chunk; its bytes."""
        message: Any = await self.receive()
        chunk: bytes = message.get("body", b"")
        self.chunks.append(chunk)
        self.size += len(chunk)
        self.held += len(chunk)
        self.more = message.get("more_body", False)
        return len(chunk)

    def whole(self) -> bytes:
        """All of it; its parts are let go of."""
        body = b"".join(self.chunks)
        self.chunks.clear()
        return body


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


def _operation(scope: Scope) -> str:
    return getattr(scope.get("route"), "operation_id", None) or "none"


def _where(error: BaseException) -> list[str]:
    """Files, lines and functions; never the error's words, which may repeat what was sent."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-8:]]
