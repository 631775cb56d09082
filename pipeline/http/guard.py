"""The egress guard's rules: which URLs may be written and sent to, and which addresses may be reached.

`check_url` answers when a webhook is written (422) and again before each request; `judge_address` is asked for each
address just before a connection, and is the authority: names can change their addresses between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from pipeline.errors import SettingsError
from pipeline.http.addresses import DENIED, Address, Network, is_in, is_public, parse_address
from pipeline.http.url_rules import Refusal, UrlParts, is_localhost, is_reserved, split_url

DEFAULT_PORTS = frozenset({443, 80, 8443, 8080})
LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What a deployment permits beyond the public internet.

    `allowed` networks are exempt from the address table, the port list and `https_required`; never from a product's
    own rule.
    """

    allowed: tuple[Network, ...] = ()
    https_required: bool = True
    ports: frozenset[int] = DEFAULT_PORTS

    @classmethod
    def parse(cls, allow: str = "", *, https_required: bool = True, ports: str = "") -> EgressPolicy:
        """From text.

        Networks and ports separated by commas or spaces (no ports: the usual ones). Raises `SettingsError`.
        """
        networks = tuple(_network(word) for word in allow.replace(",", " ").split())
        numbers = frozenset(_port(word) for word in ports.replace(",", " ").split())
        return cls(networks, https_required, numbers or DEFAULT_PORTS)

    @property
    def loopback(self) -> tuple[Address, ...]:
        """The addresses that `localhost` stands for here."""
        return tuple(address for address in LOOPBACK if is_in(address, self.allowed))

    @property
    def reaches_inside(self) -> bool:
        """Whether a network other than the loopback is allowed, in which names can be known only by resolving them."""
        return any(not network.is_loopback for network in self.allowed)


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that may be tried. With `allowed_only`, only if each of its addresses lies in an allowed network."""

    parts: UrlParts
    allowed_only: bool

    @property
    def url(self) -> str:
        """The canonical spelling: what is sent."""
        return self.parts.url


def check_url(text: str, policy: EgressPolicy, *, https_only: bool = False) -> CheckedUrl | Refusal:
    """Judge a webhook's URL as it is written. `https_only` is the product's own rule, from which nothing is exempt.

    A name that breaks a rule of the deployment's alone may still lie in an allowed network. `localhost` is decided
    here. Other names are let through as `allowed_only` if the deployment allows a network other than the loopback,
    and decided when connecting.
    """
    parts = split_url(text)
    if isinstance(parts, Refusal):
        return parts
    if https_only and parts.scheme != "https":
        return Refusal("https", "The URL must begin with https://")
    refusal = _refuse_place(parts, policy)
    if refusal is None:
        return CheckedUrl(parts, allowed_only=False)
    return CheckedUrl(parts, allowed_only=True) if _may_be_exempt(parts, policy) else refusal


def judge_address(
    address: str, policy: EgressPolicy, *, allowed_only: bool = False, table: tuple[Network, ...] = DENIED
) -> bool:
    """Whether a connection to this address may be made.

    What is no address may not; IPv4-mapped IPv6 is judged as IPv4.
    """
    try:
        parsed = parse_address(address)
    except ValueError:
        return False
    return is_in(parsed, policy.allowed) or (not allowed_only and is_public(parsed, table))


def _refuse_place(parts: UrlParts, policy: EgressPolicy) -> Refusal | None:
    """The deployment's rules, from which allowed networks are exempt."""
    if parts.address is not None and not is_public(parts.address):
        return Refusal("address", "The host must be a public address")
    if parts.address is None and is_reserved(parts.host):
        return Refusal("host", "The host must be a public name")
    if parts.port not in policy.ports:
        return Refusal("port", f"The port must be one of {', '.join(map(str, sorted(policy.ports)))}")
    if policy.https_required and parts.scheme != "https":
        return Refusal("https", "The URL must begin with https://")
    return None


def _may_be_exempt(parts: UrlParts, policy: EgressPolicy) -> bool:
    if parts.address is not None:
        return is_in(parts.address, policy.allowed)
    return bool(policy.loopback) if is_localhost(parts.host) else policy.reaches_inside


def _network(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise SettingsError(f"egress allow: {word!r} is not a network like 10.1.0.0/16") from error


def _port(word: str) -> int:
    if not word.isascii() or not word.isdigit() or not 0 < int(word) <= 65_535:  # noqa: PLR2004
        raise SettingsError(f"egress ports: {word!r} is not a port")
    return int(word)
