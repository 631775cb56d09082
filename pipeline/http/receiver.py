"""A receiver that checks each product's own rule: the other end of a delivery, for demo, command line and tests."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import orjson
from aiohttp import web

from pipeline.errors import PipelineError, UsageError
from pipeline.profiles import Profile

if TYPE_CHECKING:
    from types import ModuleType

HOST = "127.0.0.1"
MOST_BODY = 8 * 1024 * 1024
KEPT = 10_000
"""How many requests a path remembers whole; the ids that it accepted it remembers all."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a path answers to verified requests: `status`, but `before` to the first `times` of some webhook-ids.

    `chosen` says of which: the first so many that come, or all if it is None.
    """

    status: int = HTTPStatus.OK
    times: int = 0
    before: int = HTTPStatus.SERVICE_UNAVAILABLE
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What comes to a path: requests of this profile, authenticated so, and what to answer."""

    profile: Profile
    auth_type: str
    secrets: Mapping[str, str] = field(default_factory=dict)
    answers: Script = Script()


@dataclass(frozen=True, slots=True)
class Received:
    """One request: `reason` says why it was not believed (None: it was); `at` is seconds since the epoch."""

    path: str
    webhook_id: str
    reason: str | None
    status: int
    body: bytes
    headers: Mapping[str, str]
    at: float


OnRequest = Callable[[str, str | None, str, bytes], object]
"""Told of each request: path, why it was not believed (None: it was), webhook-id, body."""

Instead = Callable[[str], int | None]
"""Asked at each verified request for a status to answer at its path; None: as the path's script says."""


@dataclass(slots=True)
class _Tally:
    """What has come to one path. `tried` counts the verified requests of each webhook-id, first come first."""

    expectation: Expectation
    requests: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    tried: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spared: int = 0
    """How many webhook-ids the script has chosen so far."""
    failing: dict[str, int] = field(default_factory=dict)
    """How many failures each chosen one still gets."""


class Receiver:
    """Listens on loopback, checks what comes to each expected path and counts it.

    A request that breaks its product's rule is answered 401. One that keeps it gets what the path's `Script` says, and
    counts as accepted if the product takes that answer for an acknowledgement.
    """

    def __init__(
        self,
        expectations: Mapping[str, Expectation],
        *,
        tls: bool = False,
        on_request: OnRequest | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        instead: Instead = lambda _path: None,
    ) -> None:
        self._tallies = {path: _Tally(expectation) for path, expectation in expectations.items()}
        self._tls = tls
        self._on_request = on_request
        self._clock = clock
        self._instead = instead
        self._came = asyncio.Event()
        self._stack = AsyncExitStack()
        self.port = port
        self.ca_file: Path | None = None
        """The certificate of the authority that signed ours, with `tls`: name it in PIPELINE_EGRESS_CA."""

    async def __aenter__(self) -> Self:
        """Listen. Raises `UsageError` when the port is taken, `PipelineError` when certificates cannot be made."""
        async with AsyncExitStack() as stack:
            context = stack.enter_context(_Certificate()) if self._tls else None
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            self.port = await _listen(runner, self.port, context.server if context else None)
            self.ca_file = context.ca_file if context else None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; what has been counted stays readable."""
        await self._stack.aclose()

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}{path}"

    def expect(self, path: str, expectation: Expectation) -> None:
        """Expect this on a path from now on, e.g. once the webhook's secret is known; its counts begin anew."""
        self._tallies[path] = _Tally(expectation)

    def accepted(self, path: str) -> tuple[str, ...]:
        """The webhook-ids accepted on a path, each once, in the order of their acceptance."""
        return tuple(self._tallies[path].accepted)

    def refused(self, path: str) -> Mapping[str, str]:
        """The webhook-ids of requests that were not believed, with the latest reason."""
        return dict(self._tallies[path].refused)

    def tried(self, path: str) -> Mapping[str, int]:
        """How many verified requests each webhook-id has had, in the order of their first ones."""
        return dict(self._tallies[path].tried)

    def requests(self, path: str) -> tuple[Received, ...]:
        """The latest requests to a path, oldest first."""
        return tuple(self._tallies[path].requests)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for requests to make the condition true. Bound it with `asyncio.timeout`."""
        while not condition():
            self._came.clear()
            await self._came.wait()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY)
        app.router.add_route("*", "/{path:.*}", self._receive)
        return app

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        tally = self._tallies.get(request.path)
        if tally is None or request.method != "POST":
            return web.Response(status=HTTPStatus.NOT_FOUND if tally is None else HTTPStatus.METHOD_NOT_ALLOWED)
        headers = {name.lower(): value for name, value in request.headers.items()}
        reason = _doubt(tally.expectation, headers, body, self._clock())
        status = HTTPStatus.UNAUTHORIZED if reason else self._answer(tally, request.path, headers["webhook-id"])
        received = Received(request.path, headers.get("webhook-id", ""), reason, status, body, headers, self._clock())
        self._count(tally, received)
        return web.Response(status=status, text=reason or HTTPStatus(status).phrase)

    def _answer(self, tally: _Tally, path: str, webhook_id: str) -> int:
        scripted = _scripted(tally, webhook_id)
        return self._instead(path) or scripted

    def _count(self, tally: _Tally, received: Received) -> None:
        tally.requests.append(received)
        if received.reason:
            tally.refused[received.webhook_id] = received.reason
        elif received.status in tally.expectation.profile.acknowledged:
            tally.accepted.setdefault(received.webhook_id)
        if self._on_request:
            self._on_request(received.path, received.reason, received.webhook_id, received.body)
        self._came.set()


class _Certificate:
    """A certificate for loopback and the authority that signed it, made for this receiver and gone with it."""

    def __init__(self) -> None:
        trustme = _trustme()
        self._folder = TemporaryDirectory(prefix="pipeline-receiver-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        authority.issue_cert(HOST, "localhost").configure_cert(self.server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._folder.cleanup()


def _trustme() -> ModuleType:
    try:
        return import_module("trustme")
    except ModuleNotFoundError as error:
        raise PipelineError("a receiver with TLS needs trustme: install webhook-pipeline[embedded]") from error


async def _listen(runner: web.AppRunner, port: int, context: ssl.SSLContext | None) -> int:
    try:
        await web.TCPSite(runner, HOST, port, ssl_context=context).start()
    except OSError as error:
        raise UsageError(f"port {port} cannot be listened on: {error.strerror}") from error
    return cast("int", runner.addresses[0][1])


def _doubt(expectation: Expectation, headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
    """Why a request is not believed: what every product sends first, then the product's own rule."""
    if headers.get("content-type") != "application/json":
        return "Content-Type is not application/json"
    if not headers.get("webhook-id") or not headers.get("webhook-timestamp"):
        return "webhook-id or webhook-timestamp is missing"
    scheme = expectation.profile.scheme(expectation.auth_type)
    if scheme is None:
        return f"{expectation.profile.title} knows no authentication {expectation.auth_type!r}"
    return scheme.verify(headers, body, expectation.secrets, now_s) or _json_fault(body)


def _json_fault(body: bytes) -> str | None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return f"the body is not JSON: {error}"
    return None


def _scripted(tally: _Tally, webhook_id: str) -> int:
    """What the script says to this verified request."""
    script = tally.expectation.answers
    first = webhook_id not in tally.tried
    tally.tried[webhook_id] = tally.tried.get(webhook_id, 0) + 1
    if first and (script.chosen is None or tally.spared < script.chosen):
        tally.spared += 1
        tally.failing[webhook_id] = script.times
    left = tally.failing.get(webhook_id, 0)
    if not left:
        return script.status
    tally.failing[webhook_id] = left - 1
    return script.before
