"""The delivery client: one POST through the egress guard, under one deadline, read within limits.

It calls httpx's transport directly: `AsyncClient` costs more than all the rest of a delivery.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import httpx
import yarl

from pipeline.flow.deliver import Outcome, Verdict
from pipeline.http.connector import GuardedConnector, tls_context
from pipeline.http.faults import verdict_of
from pipeline.http.guard import EgressPolicy, check_url
from pipeline.http.identity import READY, Identities
from pipeline.http.names import LOOKUP_DEADLINE_S, Lookup, NameServers
from pipeline.http.proxy import EgressProxy
from pipeline.http.redirects import FOLLOWED, hop_url, without_credentials
from pipeline.http.transport import Place, Post, PostTransport
from pipeline.http.url_rules import Refusal

if TYPE_CHECKING:
    from pipeline.flow.deliver import ClientCertificate, OutgoingRequest
    from pipeline.settings import Settings

MAX_READ = 64 * 1024
"""Raw bytes of an answer's body that are read; then the connection is closed. The answer's status stands."""
MAX_KEPT = 16 * 1024
"""Bytes of the body that are kept."""
MAX_HEADERS = 50
MAX_HEADER_BYTES = 8 * 1024
"""What is kept of an answer's headers, names and values."""
_REMEMBERED_URLS = 4096


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a checked URL leads to."""

    place: Place
    canonical: str
    origin: tuple[str, str, int]
    transport: PostTransport


@dataclass(slots=True)
class _Answer:
    """What has been read of an answer so far: a failure keeps it."""

    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class DeliveryClient:
    """Sends deliveries. One for a process, made inside its running loop; close it with `aclose`.

    `ca_file`: authorities (PEM) besides the usual ones. `proxy`: `http://[user:password@]host:port`. `name_servers`:
    `ADDRESS:PORT …` to ask instead of the system's; `lookup` replaces them altogether. `limit_per_host`: connections
    to one host and port at a time, 0 for no limit. `data_dir`: where files for client certificates are kept.
    Raises `SettingsError` when made with a `ca_file`, `proxy` or `name_servers` that cannot be used.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        ca_file: str | Path = "",
        proxy: str = "",
        name_servers: str = "",
        lookup: Lookup | None = None,
        lookup_deadline_s: float = LOOKUP_DEADLINE_S,
        limit_per_host: int = 0,
        data_dir: str | Path = "data",
    ) -> None:
        self._policy = policy
        egress_proxy = EgressProxy.parse(proxy)
        tls = tls_context(ca_file)
        self._names = None if lookup else NameServers(name_servers.replace(",", " ").split())
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
        self._public = PostTransport(connector(), tls)
        self._allowed = PostTransport(connector(allowed_only=True), tls)
        self._identities = Identities(Path(data_dir), ca_file)
        self._target = functools.lru_cache(maxsize=_REMEMBERED_URLS)(self._check)
        self._presenting = functools.lru_cache(maxsize=READY)(self._check)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """By a deployment's settings. Raises `SettingsError`."""
        return cls(
            EgressPolicy.parse(settings.egress_allow, https_required=not settings.egress_http),
            ca_file=settings.egress_ca,
            proxy=settings.egress_proxy,
            name_servers=settings.egress_name_servers,
            data_dir=settings.data_dir,
        )

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
        except (httpx.HTTPError, OSError) as error:
            failure = verdict_of(error)
        return _outcome(failure, answer, loop.time() - started)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._public.aclose()
        await self._allowed.aclose()
        if self._names is not None:
            await self._names.close()

    async def _deliver(self, request: OutgoingRequest, answer: _Answer) -> Verdict | None:
        certificate = request.client_certificate
        if certificate is None:
            target = self._target(request.url, request.https_only)
        else:
            target = self._presenting(request.url, request.https_only, certificate)
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
            here, headers = target, foreign
            if target.origin == first.origin:
                here, headers = self._at_home(url, request) or target, request.headers
            await _post(here, headers, request.body, answer)
        return None

    def _at_home(self, url: str, request: OutgoingRequest) -> _Target | None:
        certificate = request.client_certificate
        return self._presenting(url, request.https_only, certificate) if certificate else None

    def _check(
        self,
        url: str,
        https_only: bool,  # noqa: FBT001  # lru_cache's key
        certificate: ClientCertificate | None = None,
    ) -> _Target | None:
        checked = check_url(url, self._policy, https_only=https_only)
        if isinstance(checked, Refusal):
            return None
        parts = checked.parts
        connected = yarl.URL(str(httpx.URL(checked.url)))
        if (connected.scheme, connected.raw_host, connected.port) != parts.origin:
            return None  # aiohttp would read another place than the guard did
        transport = self._allowed if checked.allowed_only else self._public
        tls = self._identities.context(certificate) if certificate else None
        return _Target(Place.of(connected, tls), checked.url, parts.origin, transport)


async def _post(target: _Target, headers: tuple[tuple[str, str], ...], body: bytes, answer: _Answer) -> None:
    answer.status, answer.headers, answer.body = None, [], b""
    response = await target.transport.handle_async_request(Post(target.place, headers, body))
    answer.status = response.status_code
    answer.headers = response.headers.raw
    await _read(cast("httpx.AsyncByteStream", response.stream), answer)


async def _read(stream: httpx.AsyncByteStream, answer: _Answer) -> None:
    """Read the body, at most `MAX_READ` of it."""
    read = 0
    try:
        async for chunk in stream:
            if read < MAX_KEPT:
                answer.body = (answer.body + chunk)[:MAX_KEPT]
            read += len(chunk)
            if read >= MAX_READ:
                break
    finally:
        await stream.aclose()


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
