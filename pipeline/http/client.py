"""The delivery client: one POST through the egress guard, under one deadline, read within limits.

The only module that knows httpx. It calls the transport directly: `AsyncClient` costs more than all the rest of a
delivery, and httpx's own transport scans every pooled connection for each request.
"""

from __future__ import annotations

import asyncio
import functools
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import aiohttp
import httpx
import yarl
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from pipeline.flow.deliver import Outcome, Verdict
from pipeline.http.connector import GuardedConnector, tls_context
from pipeline.http.faults import verdict_of
from pipeline.http.guard import check_url
from pipeline.http.names import LOOKUP_DEADLINE_S, Lookup, NameServers
from pipeline.http.proxy import EgressProxy
from pipeline.http.redirects import FOLLOWED, hop_url, without_credentials
from pipeline.http.url_rules import Refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from pipeline.flow.deliver import OutgoingRequest
    from pipeline.http.guard import EgressPolicy

MAX_READ = 64 * 1024
"""Raw bytes of an answer's body that are read; then the connection is closed. The answer's status stands."""
MAX_KEPT = 16 * 1024
"""Bytes of the body that are kept."""
MAX_HEADERS = 50
MAX_HEADER_BYTES = 8 * 1024
"""What is kept of an answer's headers, names and values."""
_MAX_LINE = 8190
_MAX_HEADERS_READ = 256
_REMEMBERED_URLS = 4096
_BUFFER = 32 * 1024
_LARGE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a checked URL leads to."""

    url: httpx.URL
    canonical: str
    origin: tuple[str, str, int]
    transport: AiohttpTransport


@dataclass(slots=True)
class _Answer:
    """What has been read of an answer so far: a failure keeps it."""

    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class _Post(httpx.Request):
    """A POST whose parts are ready.

    Httpx's own constructor would read and copy the headers twice, a fifth of a delivery's time.
    """

    def __init__(self, url: httpx.URL, headers: CIMultiDict[str], body: bytes) -> None:
        self.method = "POST"
        self.url = url
        self.headers = cast("httpx.Headers", headers)  # the transport hands it to aiohttp as it is
        self.extensions = {}
        # aiohttp warns about large bytes, and writes a file's parts as the endpoint takes them
        self._content = body if len(body) < _LARGE else cast("bytes", io.BytesIO(body))


class DeliveryClient:
    """Sends deliveries. One for a process, made inside its running loop; close it with `aclose`.

    `ca_file`: authorities (PEM) besides the usual ones. `proxy`: `http://[user:password@]host:port`. `lookup`
    replaces the system's name servers. `limit_per_host`: connections to one host and port at a time, 0 for no limit.
    Raises `SettingsError` when made with a `ca_file` or `proxy` that cannot be used.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        ca_file: str | Path = "",
        proxy: str = "",
        lookup: Lookup | None = None,
        lookup_deadline_s: float = LOOKUP_DEADLINE_S,
        limit_per_host: int = 0,
    ) -> None:
        self._policy = policy
        egress_proxy = EgressProxy.parse(proxy)
        tls = tls_context(ca_file)
        self._names = None if lookup else NameServers()
        connector = functools.partial(
            GuardedConnector,
            policy,
            lookup or cast("Lookup", self._names),
            tls,
            proxy=egress_proxy,
            limit_per_host=limit_per_host,
            lookup_deadline_s=lookup_deadline_s,
        )
        # Two pools: what is reached only by the deployment's exemption may not lean on the rules for everyone.
        self._public = _transport(connector(), tls)
        self._allowed = _transport(connector(allowed_only=True), tls)
        self._target = functools.lru_cache(maxsize=_REMEMBERED_URLS)(self._check)

    async def send(self, request: OutgoingRequest) -> Outcome:
        """Send it and read the answer.

        An endpoint's failure is a value; `deadline_s` holds for all of it, redirects too.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer = _Answer()
        try:
            async with asyncio.timeout(request.deadline_s):
                failure = await self._deliver(request, answer)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            failure = verdict_of(error)
        return _outcome(failure, answer, loop.time() - started)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._public.aclose()
        await self._allowed.aclose()
        if self._names is not None:
            await self._names.close()

    async def _deliver(self, request: OutgoingRequest, answer: _Answer) -> Verdict | None:
        target = self._target(request.url, request.https_only)
        if target is None:
            return Verdict.BLOCKED
        await _post(target, request.headers, request.body, answer)
        if request.max_redirects and answer.status in FOLLOWED:
            return await self._follow(target, request, answer)
        return None

    async def _follow(self, first: _Target, request: OutgoingRequest, answer: _Answer) -> Verdict | None:
        """Repeat the POST where the answer points to, until an answer that is no redirect."""
        here, visited, foreign = first, {first.canonical}, without_credentials(request.headers)
        while (location := _location(answer)) is not None:
            url = hop_url(here.canonical, location)
            if url is None or len(visited) > request.max_redirects:
                return Verdict.REDIRECT
            target = self._target(url, request.https_only)
            if target is None:
                return Verdict.BLOCKED
            if target.canonical in visited:
                return Verdict.REDIRECT
            visited.add(target.canonical)
            here = target
            await _post(here, request.headers if here.origin == first.origin else foreign, request.body, answer)
        return None

    def _check(self, url: str, https_only: bool) -> _Target | None:  # noqa: FBT001  # lru_cache's key
        checked = check_url(url, self._policy, https_only=https_only)
        if isinstance(checked, Refusal):
            return None
        parts = checked.parts
        parsed = httpx.URL(checked.url)
        connected = yarl.URL(str(parsed))
        if (connected.scheme, connected.raw_host, connected.port) != parts.origin:
            return None  # aiohttp would read another place than the guard did
        return _Target(parsed, checked.url, parts.origin, self._allowed if checked.allowed_only else self._public)


def _transport(connector: GuardedConnector, tls: ssl.SSLContext) -> AiohttpTransport:
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        auto_decompress=False,
        trust_env=False,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        max_headers=_MAX_HEADERS_READ,
        read_bufsize=_BUFFER,
    )
    return AiohttpTransport(client=session, verify=tls, trust_env=False)


async def _post(target: _Target, headers: tuple[tuple[str, str], ...], body: bytes, answer: _Answer) -> None:
    answer.status, answer.headers, answer.body = None, [], b""
    response = await target.transport.handle_async_request(_Post(target.url, CIMultiDict(headers), body))
    answer.status = response.status_code
    answer.headers = response.headers.raw
    await _read(response, answer)


async def _read(response: httpx.Response, answer: _Answer) -> None:
    """Read the body, at most `MAX_READ` of it. A connection with an unread rest is closed, never used again."""
    chunks = cast("AsyncGenerator[bytes, None]", aiter(cast("httpx.AsyncByteStream", response.stream)))
    read = 0
    whole = False
    try:
        async for chunk in chunks:
            if read < MAX_KEPT:
                answer.body = (answer.body + chunk)[:MAX_KEPT]
            read += len(chunk)
            if read >= MAX_READ:
                break
        else:
            whole = True
    finally:
        if not whole:
            await chunks.aclose()
            await response.aclose()


def _location(answer: _Answer) -> str | None:
    if answer.status not in FOLLOWED:
        return None
    return next((_text(value) for name, value in answer.headers if name.lower() == b"location"), None)


def _outcome(failure: Verdict | None, answer: _Answer, seconds: float) -> Outcome:
    # How long a blocked request took would tell what lies behind the guard.
    duration_ms = 0 if failure is Verdict.BLOCKED else round(seconds * 1000)
    return Outcome(failure, answer.status, _kept_headers(answer.headers), answer.body, duration_ms)


def _kept_headers(raw: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str]] = []
    room = MAX_HEADER_BYTES
    for name, value in raw[:MAX_HEADERS]:
        room -= len(name) + len(value)
        if room < 0:
            break
        kept.append((_text(name), _text(value)))
    return tuple(kept)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
