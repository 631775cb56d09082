"""Which addresses a tenant's URL may lead to, whoever owns the name.

An explicit table, since `ipaddress.is_global` errs.

On Python 3.11 and 3.12 it is wrong for NAT64, 6to4, IPv4-compatible, multicast and site-local addresses, and no
Python knows the addresses that clouds keep for their own metadata.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

GLOBAL_V6 = IPv6Network("2000::/3")
"""All of IPv6 that is global unicast (RFC 4291): nothing else is reached, so no row below lies outside it."""

DENIED: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"),  # this host, this network: RFC 791
    IPv4Network("10.0.0.0/8"),  # private: RFC 1918
    IPv4Network("100.64.0.0/10"),  # carriers' NAT, and a cloud's metadata at 100.100.100.200: RFC 6598
    IPv4Network("127.0.0.0/8"),  # loopback: RFC 1122
    IPv4Network("168.63.129.16/32"),  # Azure's own platform address, the same in every network
    IPv4Network("169.254.0.0/16"),  # link-local, and most clouds' metadata: RFC 3927
    IPv4Network("172.16.0.0/12"),  # private: RFC 1918
    IPv4Network("192.0.0.0/24"),  # protocol assignments, and a cloud's metadata at 192.0.0.192: RFC 6890
    IPv4Network("192.0.2.0/24"),  # documentation: RFC 5737
    IPv4Network("192.88.99.0/24"),  # 6to4 relays: RFC 7526
    IPv4Network("192.168.0.0/16"),  # private: RFC 1918
    IPv4Network("198.18.0.0/15"),  # benchmarks: RFC 2544
    IPv4Network("198.51.100.0/24"),  # documentation: RFC 5737
    IPv4Network("203.0.113.0/24"),  # documentation: RFC 5737
    IPv4Network("224.0.0.0/4"),  # multicast: RFC 5771
    IPv4Network("240.0.0.0/4"),  # reserved, and the broadcast address: RFC 1112
    IPv6Network("2001::/23"),  # protocol assignments: Teredo, benchmarks, ORCHID: RFC 2928
    IPv6Network("2001:db8::/32"),  # documentation: RFC 3849
    IPv6Network("2002::/16"),  # 6to4, which carries any IPv4 address: RFC 3056
    IPv6Network("3ffe::/16"),  # the former 6bone: RFC 3701
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
)


def parse_address(text: str) -> Address:
    """An address from its text, IPv4-mapped IPv6 as the IPv4 address that it reaches.

    Raises ValueError for anything else.
    """
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address, table: tuple[Network, ...] = DENIED) -> bool:
    """Whether anyone's URL may lead to this address (as `parse_address` reads it)."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_V6 or address.scope_id is not None):
        return False
    return not is_in(address, table)


def is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    """Whether the address lies in one of the networks."""
    return any(address in network for network in networks)
