"""A name server of which some names take half a minute: RFC 1035, UDP, addresses of version 4 alone."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

ANSWERS_AFTER_S = 30.0
QUICK, SLOW = "quick.example.com", "slow.example.com"
"""Names under the first are answered at once, names under the second late; both lead to 127.0.0.1."""
_A = 1
_LOOPBACK = struct.pack(">HHHIH", 0xC00C, _A, 1, 1, 4) + bytes((127, 0, 0, 1))
"""The name of the question (at byte 12), class IN, for one second."""


class NameServer(asyncio.DatagramProtocol):
    """Answers every question."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question."""
        end = data.index(0, 12) + 5
        wanted = struct.unpack(">H", data[end - 4 : end - 2])[0] == _A
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, wanted, 0, 0)
        reply = head + data[12:end] + _LOOPBACK * wanted
        wait_s = ANSWERS_AFTER_S if b"\x04slow\x07example" in data.lower() else 0
        asyncio.get_running_loop().call_later(wait_s, self._reply, reply, addr)

    def _reply(self, reply: bytes, addr: tuple[str, int]) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(reply, addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[str]:
    """Its address and port."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        host, port = transport.get_extra_info("sockname")[:2]
        yield f"{host}:{port}"
    finally:
        transport.close()
