"""An egress proxy.

A tunnel (CONNECT, RFC 9110 section 9.3.6) to an address that we have resolved and judged ourselves.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.errors import SettingsError
from pipeline.http.faults import ProxyFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

REACH_DEADLINE_S = 5.0
"""For the connection to the proxy itself. What the proxy then needs to reach the endpoint counts as the endpoint's."""
_MAX_REPLY = 8192
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_TUNNEL = range(200, 300)
_UNREACHABLE = {502, 504}
"""What a proxy says of an endpoint that cannot be reached.

Everything else is about the proxy: RFC 9110, section 15.6.
"""


class TargetUnreachable(OSError):
    """The proxy works, and says that the endpoint does not."""


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy at `host`:`port`. `credentials` go into Proxy-Authorization (RFC 7617) and nowhere else."""

    host: str
    port: int
    credentials: str | None = None

    @classmethod
    def parse(cls, url: str) -> EgressProxy | None:
        """From `http://[user:password@]host:port`.

        None for an empty text. Raises `SettingsError`, which tells no password.
        """
        if not url:
            return None
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port or parts.scheme != "http" or parts.path not in {"", "/"}:
            raise SettingsError("egress proxy: http://host:port is needed")
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        return cls(host, port, user)

    async def open(self, address: str, port: int) -> socket.socket:
        """A connected socket that leads to the address through the proxy. Raises `ProxyFailed`, `TargetUnreachable`."""
        sock = await self._reach()
        try:
            _judge(await self._ask(sock, address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _reach(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REACH_DEADLINE_S):
                places = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
                return await _connect_any([(place[0], place[4]) for place in places])
        except OSError as error:
            raise ProxyFailed("The proxy cannot be reached") from error

    async def _ask(self, sock: socket.socket, address: str, port: int) -> int:
        loop = asyncio.get_running_loop()
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        secret = f"Proxy-Authorization: Basic {_basic(self.credentials)}\r\n" if self.credentials else ""
        try:
            await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{secret}\r\n".encode())
            reply = await _read_head(sock)
        except OSError as error:
            raise ProxyFailed("The connection to the proxy broke") from error
        status = _STATUS.match(reply)
        if status is None or not reply.endswith(b"\r\n\r\n"):
            raise ProxyFailed("The proxy did not answer with HTTP")
        return int(status[1])


def _judge(status: int) -> None:
    if status in _UNREACHABLE:
        raise TargetUnreachable(f"The proxy answered {status}")
    if status not in _TUNNEL:
        raise ProxyFailed(f"The proxy answered {status}")


async def _connect_any(places: Sequence[tuple[int, object]]) -> socket.socket:
    loop = asyncio.get_running_loop()
    last: OSError = ProxyFailed("The proxy's name has no address")
    for family, place in places:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, place)  # type: ignore[arg-type]  # getaddrinfo's own answer
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


async def _read_head(sock: socket.socket) -> bytes:
    """The proxy's reply up to its empty line.

    In a tunnel the client speaks first, so nothing of the endpoint follows yet.
    """
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MAX_REPLY:
        chunk = await loop.sock_recv(sock, _MAX_REPLY - len(head))
        if not chunk:
            break
        head += chunk
    return head


def _basic(credentials: str | None) -> str:
    return base64.b64encode((credentials or "").encode()).decode()
