"""One POST over one of aiohttp's connections, as an httpx transport.

`ClientSession` serves every kind of request: for each one it merges headers, cookies, proxies and traces, makes three
objects that time it and a task that writes the body. A delivery needs none of them, and they were most of its time.
So this stands on what the session of aiohttp 3.14.5 itself stands on: the connector (pool, look-up, TLS, the guard)
and the connection's protocol with its parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import _serialize_headers as serialize
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions
from multidict import CIMultiDict

from pipeline.http.faults import Fault

if TYPE_CHECKING:
    import asyncio
    import ssl

    import yarl
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

    from pipeline.http.answer import BoundedAnswer
    from pipeline.http.connector import GuardedConnector

_NO_TIMEOUT = aiohttp.ClientTimeout()

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, and all that is the same in every POST to it."""

    url: httpx.URL
    headers: httpx.Headers
    start: str
    first: Headers
    way: aiohttp.ClientRequest
    """Tells the connector host, port and scheme. It is never sent."""

    @classmethod
    def of(cls, url: yarl.URL, tls: ssl.SSLContext | None = None) -> Place:
        """Of an absolute URL, inside the running loop. `tls` instead of the connector's own context."""
        way = aiohttp.ClientRequest("POST", url, ssl=tls or True)
        first = (("Host", way.headers["Host"]), ("Accept-Encoding", "identity"))
        return cls(httpx.URL(str(url)), httpx.Headers(first), f"POST {url.raw_path_qs} HTTP/1.1", first, way)


class Post(httpx.Request):
    """A POST whose parts are ready: `headers` are the place's, `own` are this request's and are sent after them.

    Httpx's own constructor would read and copy all of them twice, a fifth of a delivery's time.
    """

    def __init__(self, place: Place, own: Headers, body: bytes) -> None:
        self.method = "POST"
        self.url = place.url
        self.headers = place.headers
        self.extensions = {}
        self.place = place
        self.own = own
        self._content = body


class PostTransport(AiohttpTransport):
    """Sends a `Post` once: no redirects, no cookies, nothing from the environment, nothing decompressed.

    It has no timeouts of its own: the caller cancels. Raises httpx's errors; their causes say what happened.
    """

    def __init__(self, connector: GuardedConnector, tls: ssl.SSLContext) -> None:
        owner = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        super().__init__(client=owner, verify=tls, trust_env=False)
        self._connector = connector

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer to a `Post`. Its stream is to be read and closed by the caller."""
        try:
            return await self._exchange(cast("Post", request))
        except (HttpProcessingError, Fault) as error:
            raise httpx.RemoteProtocolError("No answer that can be read") from error
        except aiohttp.ClientError:
            with map_aiohttp_exceptions():
                raise

    async def _exchange(self, post: Post) -> httpx.Response:
        connection = await self._connector.connect(post.place.way, [], _NO_TIMEOUT)
        try:
            protocol = cast("BoundedAnswer", connection.protocol)
            protocol.expect()
            _write(connection.transport, post)
            head, payload = await protocol.read()
        except BaseException:
            _cut(connection)
            raise
        return httpx.Response(head.code, headers=head.raw_headers, stream=_Body(connection, payload))


class _Body(httpx.AsyncByteStream):
    """An answer's raw body as it comes, and the connection that it comes over."""

    def __init__(self, connection: Connection, payload: StreamReader) -> None:
        self._connection = connection
        self._payload = payload

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._payload.readany()
        except aiohttp.ClientError:
            with map_aiohttp_exceptions():
                raise
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Keep the connection for the next request if this one and its answer are through, else end it."""
        transport = self._connection.transport
        sent = transport is None or not transport.get_write_buffer_size()
        if sent and self._payload.is_eof():
            self._connection.release()
        else:
            _cut(self._connection)


def _write(transport: asyncio.Transport | None, post: Post) -> None:
    """Write all at once: what the endpoint does not take yet waits in the transport.

    Raises `ValueError` for a line break in a header.
    """
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("The connection is closed")
    headers = CIMultiDict((*post.place.first, *post.own, ("Content-Length", str(len(post.content)))))
    transport.writelines((serialize(post.place.start, headers), post.content))


def _cut(connection: Connection) -> None:
    """End a connection at once.

    One that is closed waits until the endpoint has taken what is left to send and, over TLS, has taken its leave.
    """
    if connection.protocol is not None:
        connection.protocol.abort()
    connection.close()
