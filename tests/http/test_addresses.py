"""The address table, row by row."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from pipeline.http.addresses import DENIED, GLOBAL_V6, Network
from pipeline.http.guard import EgressPolicy, judge_address

pytestmark = pytest.mark.egress

PUBLIC_ONLY = EgressPolicy()

# Kept apart from the table: a row that is taken out leaves its probe here, which then fails.
PROBES = (
    *("0.0.0.1", "10.1.2.3", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254", "172.31.255.255"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.19.0.1", "198.51.100.1", "203.0.113.1"),
    *("239.255.255.250", "255.255.255.255"),
    *("2001:10::1", "2001:db8::1", "2002:7f00:1::", "3ffe::1", "3fff::1"),
)
OUTSIDE = (
    *("::", "::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "1fff::1"),
    *("4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
)
REACHED = ("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255")


@pytest.mark.parametrize("address", PROBES)
def test_address_in_the_table_is_denied(address: str) -> None:
    """An address that a row of the table denies is never reached."""
    assert not judge_address(address, PUBLIC_ONLY)


@pytest.mark.parametrize("row", DENIED, ids=str)
def test_each_row_is_needed(row: Network) -> None:
    """Each row of the table alone denies one of the probes: without it, the probe would be reached."""
    probes = [address for address in PROBES if ip_address(address) in row]
    without = tuple(other for other in DENIED if other != row)
    assert probes
    assert all(judge_address(address, PUBLIC_ONLY, table=without) for address in probes)


@pytest.mark.parametrize("address", OUTSIDE)
def test_ipv6_is_reached_only_where_it_is_global_unicast(address: str) -> None:
    """An IPv6 address outside 2000::/3 is denied without any row."""
    assert ip_address(address) not in GLOBAL_V6
    assert not judge_address(address, PUBLIC_ONLY, table=())


@pytest.mark.parametrize("address", [*REACHED, "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_address_is_reached(address: str) -> None:
    """A public address next to the table's rows is not denied."""
    assert judge_address(address, PUBLIC_ONLY)


@pytest.mark.parametrize(("address", "reached"), [("::ffff:8.8.8.8", True), ("::ffff:10.0.0.1", False)])
def test_mapped_address_is_judged_as_ipv4(address: str, reached: bool) -> None:  # noqa: FBT001
    """IPv4-mapped IPv6 is judged as the IPv4 address that it reaches."""
    assert judge_address(address, PUBLIC_ONLY) is reached


@pytest.mark.parametrize("address", ["", "localhost", "010.0.0.1", "1.2.3", "2606:4700::1%eth0", "8.8.8.8 "])
def test_what_is_no_plain_address_is_denied(address: str) -> None:
    """Text that is no address in full, or that names a zone, is denied."""
    assert not judge_address(address, PUBLIC_ONLY)


def test_allowed_network_is_exempt_from_the_table() -> None:
    """An address in an allowed network is reached, IPv4-mapped too, and its neighbours are not."""
    policy = EgressPolicy.parse("10.1.0.0/16, ::1/128")
    assert all(judge_address(address, policy) for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1"))
    assert not judge_address("10.2.0.1", policy)


def test_allowed_only_means_the_allowed_networks() -> None:
    """Where only the deployment's exemption counts, a public address is not reached."""
    policy = EgressPolicy.parse("10.1.0.0/16")
    assert judge_address("10.1.2.3", policy, allowed_only=True)
    assert not judge_address("8.8.8.8", policy, allowed_only=True)
