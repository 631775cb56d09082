"""A small real name server on the loopback, UDP and TCP: RFC 1035."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

A, CNAME, AAAA = 1, 5, 28
_TYPES = {"A": A, "CNAME": CNAME, "AAAA": AAAA}
_NXDOMAIN = 3
_SERVFAIL = 2
_MAX_UDP = 512


@dataclass(frozen=True)
class Zone:
    """What one name leads to: records like ("A", "8.8.8.8"). `answers` are used in turn; the last one stays.

    Over UDP it is told `after_s` seconds.
    """

    answers: Sequence[Sequence[tuple[str, str]]] = ()
    rcode: int = 0
    silent: bool = False
    after_s: float = 0.0


NXDOMAIN = Zone(rcode=_NXDOMAIN)
SERVFAIL = Zone(rcode=_SERVFAIL)
SILENT = Zone(silent=True)


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers from `zones`, by name in lower case. `asked` is every question: name and type."""

    zones: dict[str, Zone]
    ttl: int = 0
    port: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    transport: Any = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def until_asked(self, names: int, within_s: float) -> None:
        """Return when so many different names have been asked for."""
        async with asyncio.timeout(within_s):
            while len({name for name, _ in self.asked}) < names:
                self.heard.clear()
                await self.heard.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """A question over UDP."""
        reply = self.reply(data)
        if reply is not None:
            after_s = self.zones.get(_question(data)[0], NXDOMAIN).after_s
            short = reply if len(reply) <= _MAX_UDP else _truncated(reply)
            asyncio.get_running_loop().call_later(after_s, self._send, short, addr)

    def _send(self, reply: bytes, addr: tuple[str | Any, int]) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(reply, addr)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions over TCP, which long answers need."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
                reply = self.reply(await reader.readexactly(size))
                if reply is not None:
                    writer.write(struct.pack(">H", len(reply)) + reply)
        writer.close()

    def reply(self, query: bytes) -> bytes | None:
        """The answer to a question; None for silence."""
        name, kind, question = _question(query)
        self.asked.append((name, kind))
        self.heard.set()
        zone = self.zones.get(name, NXDOMAIN)
        if zone.silent:
            return None
        turn = sum(1 for asked in self.asked if asked == (name, kind)) - 1
        records = zone.answers[min(turn, len(zone.answers) - 1)] if zone.answers else ()
        fitting = [record for record in records if _TYPES[record[0]] in {kind, CNAME}]
        body = _encode(name, fitting, self.ttl)
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | zone.rcode, 1, len(fitting), 0, 0)
        return head + question + body


@contextlib.asynccontextmanager
async def name_server(zones: dict[str, Zone], ttl: int = 0) -> AsyncIterator[NameServer]:
    """A name server for these names."""
    server = NameServer(zones, ttl)
    tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
    server.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, ("127.0.0.1", server.port), family=socket.AF_INET
    )
    try:
        yield server
    finally:
        udp.close()
        tcp.close()


def _question(query: bytes) -> tuple[str, int, bytes]:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    return ".".join(labels).lower(), kind, query[12 : at + 5]


def _encode(name: str, records: Sequence[tuple[str, str]], ttl: int) -> bytes:
    owner, out = name, b""
    for kind, value in records:
        data = _name(value) if kind == "CNAME" else ip_address(value.partition("%")[0]).packed
        out += _name(owner) + struct.pack(">HHIH", _TYPES[kind], 1, ttl, len(data)) + data
        owner = value if kind == "CNAME" else owner
    return out


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _truncated(reply: bytes) -> bytes:
    """The head and the question, with the TC bit: ask again over TCP."""
    _, _, question = _question(reply)
    flags = struct.unpack(">H", reply[2:4])[0] | 0x0200
    return reply[:2] + struct.pack(">HHHHH", flags, 1, 0, 0, 0) + question
