"""Names to addresses.

Our own resolver, asynchronous, so that a slow name server holds up only those who ask for its names.

`getaddrinfo` would need a thread for each look-up that hangs, for as long as the system's own timeouts last.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import aiodns
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.errors import SettingsError
from pipeline.http.faults import Blocked, NotResolved
from pipeline.http.guard import judge_address
from pipeline.http.url_rules import is_localhost

if TYPE_CHECKING:
    from pipeline.http.guard import EgressPolicy

LOOKUP_DEADLINE_S = 5.0
_TRY_S, _TRIES = 1.5, 5
"""How long the first question is waited for, each later one for twice as long. C-ares lowers that to a quarter of a
second where a name server has been quick: it takes five for a slow name to have all of the deadline."""
_MAX_TRIED = 8
"""Addresses of one name that a connection tries; all are judged."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, IPv4 and IPv6. Raises `NotResolved`."""


class NameServers:
    """Look-ups at the system's name servers (and its hosts file), or at those given as `host:port`.

    There are hardly more of them than requests under way, as one that is given up ends by itself a little later; and
    they do not wait for each other: a bound of their own, shared by all, would let one tenant's names that never
    resolve keep everyone else's waiting.
    Made inside a running loop. Raises `SettingsError` for one that is not so written.
    """

    def __init__(self, servers: Sequence[str] = ()) -> None:
        # Without the search list: a tenant's name is a whole name, and must not be tried inside our own domain.
        flags = pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES
        try:
            self._dns = aiodns.DNSResolver(nameservers=list(servers) or None, timeout=_TRY_S, tries=_TRIES, flags=flags)
        except pycares.AresError as error:
            raise SettingsError(f"egress name servers: {' '.join(servers)!r} is no list of ADDRESS:PORT") from error

    async def __call__(self, host: str) -> Sequence[str]:
        """See `Lookup`."""
        try:
            answer = await self._dns.getaddrinfo(host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise NotResolved("The name could not be resolved") from error
        return [node.addr[0].decode() for node in answer.nodes]

    async def close(self) -> None:
        """Give up what is still asked."""
        await self._dns.close()


class GuardedResolver(AbstractResolver):
    """Resolves for a connector: once, with a deadline, every answer judged. One bad address denies the name."""

    def __init__(self, lookup: Lookup, policy: EgressPolicy, *, allowed_only: bool, deadline_s: float) -> None:
        self._lookup = lookup
        self._policy = policy
        self._allowed_only = allowed_only
        self._deadline_s = deadline_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses to try. Raises `Blocked`, `NotResolved`."""
        addresses = await self._addresses(host)
        if not addresses:
            raise NotResolved("The name has no address")
        if not all(judge_address(address, self._policy, allowed_only=self._allowed_only) for address in addresses):
            raise Blocked("The name leads to an address that may not be reached")
        return [_result(host, address, port, family) for address in addresses[:_MAX_TRIED]]

    async def close(self) -> None:
        """The look-up belongs to who made it."""

    async def _addresses(self, host: str) -> Sequence[str]:
        if is_localhost(host):  # by definition, not by what a name server says: RFC 6761, section 6.3
            return [str(address) for address in self._policy.loopback]
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._lookup(host)
        except TimeoutError as error:
            raise NotResolved("The name servers did not answer in time") from error


def _result(host: str, address: str, port: int, family: int) -> ResolveResult:
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
