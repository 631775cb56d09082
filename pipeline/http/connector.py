"""Connections that the egress guard has let through, and no others."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import certifi

from pipeline.errors import SettingsError
from pipeline.http.answer import BoundedAnswer
from pipeline.http.faults import Blocked
from pipeline.http.guard import judge_address
from pipeline.http.identity import plain_context
from pipeline.http.names import LOOKUP_DEADLINE_S, GuardedResolver, Lookup
from pipeline.http.proxy import EgressProxy, TargetUnreachable

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_proto import ResponseHandler

    from pipeline.http.guard import EgressPolicy

KEEPALIVE_S = 4.0
"""Shorter than what common servers keep an idle connection for (Node.

5 s), so that a POST hardly ever meets a closing one.
"""
_REMEMBER_NAMES_S = 1
"""Only so that one burst asks once: how long an answer holds is the name servers' to say."""


class GuardedConnector(aiohttp.TCPConnector):
    """aiohttp's connector with our resolver, and with the guard's last word before each connect.

    A resolver alone is not enough: aiohttp does not ask it about literal addresses. `allowed_only`: reaches the
    deployment's allowed networks and nothing else. Host, SNI and the certificate's check stay with the name. Through
    a proxy go all connections but those into allowed networks.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        lookup: Lookup,
        tls: ssl.SSLContext,
        *,
        allowed_only: bool = False,
        proxy: EgressProxy | None = None,
        limit_per_host: int = 0,
        lookup_deadline_s: float = LOOKUP_DEADLINE_S,
    ) -> None:
        super().__init__(
            ssl=tls,
            resolver=GuardedResolver(lookup, policy, allowed_only=allowed_only, deadline_s=lookup_deadline_s),
            socket_factory=self._open_socket,
            ttl_dns_cache=_REMEMBER_NAMES_S,
            keepalive_timeout=KEEPALIVE_S,
            limit=0,
            limit_per_host=limit_per_host,
        )
        self._policy = policy
        self._allowed_only = allowed_only
        self._egress_proxy = proxy
        handler = cast("type[ResponseHandler]", BoundedAnswer)
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())

    def _open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = info
        self._admit(str(place[0]))
        return socket.socket(family, kind, protocol)

    def _admit(self, address: str) -> None:
        if not judge_address(address, self._policy, allowed_only=self._allowed_only):
            raise Blocked("The address may not be reached")

    def _is_allowed(self, info: aiohttp.AddrInfoType) -> bool:
        return judge_address(str(info[4][0]), self._policy, allowed_only=True)

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[aiohttp.AddrInfoType],
        req: ClientRequest,
        timeout: ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        proxy = self._egress_proxy
        if proxy is None or all(self._is_allowed(info) for info in addr_infos):
            return await super()._wrap_create_connection(
                *args, addr_infos=addr_infos, req=req, timeout=timeout, client_error=client_error, **kwargs
            )
        address, port = str(addr_infos[0][4][0]), int(addr_infos[0][4][1])
        self._admit(address)
        try:
            sock = await proxy.open(address, port)
        except TargetUnreachable as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error  # another address may do
        return await self._wrap_existing_connection(*args, sock=sock, req=req, timeout=timeout, **kwargs)


def tls_context(extra_ca: str | Path = "") -> ssl.SSLContext:
    """Verification of endpoints: the usual authorities and those in `extra_ca` (PEM), nothing from the environment.

    Raises `SettingsError` if the file cannot be used.
    """
    context = plain_context()
    context.load_verify_locations(certifi.where())
    if extra_ca:
        try:
            context.load_verify_locations(extra_ca)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(f"egress CA: {extra_ca} holds no certificates that can be read") from error
    return context
