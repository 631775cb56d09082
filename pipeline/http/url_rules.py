"""How a webhook's URL must be written. Pure: nothing is resolved, and what is not plainly right is refused.

Parsers differ about odd URLs, and attackers live off the difference. So ours is strict, and what it returns is put
together anew from the parts that it has understood: no later parser sees anything else.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from pipeline.http.addresses import Address, parse_address

MAX_URL = 2048
"""Characters."""
_MAX_HOST = 253
_MAX_PORT = 65_535
_DEFAULT_PORTS = {"https": 443, "http": 80}
_PARTS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<target>.*)", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_INSIDE = (
    *("arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc"),
    *("alt", "onion"),  # not DNS at all: RFC 9476, RFC 7686
)
"""What the last label of a name is that exists only inside a network."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a URL is refused.

    A short name of the rule, and a sentence that any tenant may read. It never tells an address.
    """

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A URL that is well written.

    `host` is lower-case ASCII without brackets; `address` is set when it is a literal.
    """

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None

    @property
    def url(self) -> str:
        """The URL in one canonical spelling, the default port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: RFC 6454."""
        return self.scheme, self.host, self.port


def split_url(text: str) -> UrlParts | Refusal:
    """The parts of `text`, or the first rule that it breaks."""
    if refusal := _refuse_text(text):
        return refusal
    match = _PARTS.fullmatch(text)
    if match is None:
        return Refusal("url", "The URL must be absolute: https://host/path")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        return Refusal("scheme", "The URL must begin with https://")
    if "@" in match["authority"]:
        return Refusal("userinfo", "The URL must not hold a user name or password")
    return _with_authority(scheme, match["authority"], match["target"])


def is_reserved(host: str) -> bool:
    """Whether a name (not an address) has a single label, or belongs to names that exist only inside networks."""
    return "." not in host or host.rpartition(".")[2] in _INSIDE


def is_localhost(host: str) -> bool:
    """Whether the name is the loopback's own: RFC 6761, section 6.3."""
    return host == "localhost" or host.endswith(".localhost")


def _refuse_text(text: str) -> Refusal | None:
    if len(text) > MAX_URL:
        return Refusal("length", f"The URL must have at most {MAX_URL} characters")
    if any(unicodedata.category(character)[0] in "CZ" for character in text):
        return Refusal("characters", "The URL must not hold spaces, control characters or invisible characters")
    if "\\" in text:
        return Refusal("characters", "The URL must not hold a backslash")
    if "#" in text:
        return Refusal("fragment", "The URL must not hold a fragment (#)")
    return None


def _with_authority(scheme: str, authority: str, target: str) -> UrlParts | Refusal:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"]:
        return Refusal("host", "The URL must name a host, and after a colon a port")
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= _MAX_PORT:
        return Refusal("port", "The port must be between 1 and 65535")
    read = _read_literal(match["host"]) if match["host"].startswith("[") else _read_host(match["host"])
    if isinstance(read, Refusal):
        return read
    target = target if target.startswith("/") else "/" + target
    return UrlParts(scheme, read[0], port, target, read[1])


def _read_literal(bracketed: str) -> tuple[str, Address] | Refusal:
    inner = bracketed[1:-1]
    try:
        literal = IPv6Address(inner) if inner.isascii() and "%" not in inner else None
    except AddressValueError:
        literal = None
    if literal is None:
        return Refusal("host", "The host in brackets must be an IPv6 address without a zone")
    return str(literal), parse_address(str(literal))


def _read_host(host: str) -> tuple[str, Address | None] | Refusal:
    name = _ascii_name(host)
    if name is None:
        return Refusal("host", "The host is not a valid name")
    if not _NUMERIC.fullmatch(name.rstrip(".").rpartition(".")[2]):
        return name.removesuffix("."), None
    address = _canonical_v4(host)
    if address is None:
        return Refusal("host", "A numeric host must be written as four decimal numbers, like 192.0.2.1")
    return host, address


def _ascii_name(host: str) -> str | None:
    """The name in lower-case ASCII, as it is after IDNA, or None if it is no valid name."""
    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode()
        labels = name.removesuffix(".").split(".")
        for label in labels:
            if label.startswith("xn--"):
                idna.decode(label)
    except idna.IDNAError:
        return None
    well_formed = all(_LABEL.fullmatch(label) for label in labels) and len(name) <= _MAX_HOST
    return name if well_formed else None


def _canonical_v4(host: str) -> IPv4Address | None:
    try:
        address = IPv4Address(host)
    except AddressValueError:
        return None
    return address if str(address) == host else None
