"""Which URLs may be written, and what a deployment's exemption reaches."""

from __future__ import annotations

import httpx
import pytest
import yarl

from pipeline.errors import SettingsError
from pipeline.http.guard import CheckedUrl, EgressPolicy, check_url
from pipeline.http.url_rules import Refusal

pytestmark = pytest.mark.egress

LOOPBACK = EgressPolicy.parse("127.0.0.0/8")
INSIDE = EgressPolicy.parse("10.1.0.0/16")


def rule(url: str, policy: EgressPolicy = EgressPolicy(), *, https_only: bool = False) -> str | None:  # noqa: B008
    checked = check_url(url, policy, https_only=https_only)
    return checked.rule if isinstance(checked, Refusal) else None


@pytest.mark.parametrize(
    ("url", "broken"),
    [
        ("http://hooks.customer.com/in", "https"),
        ("ftp://hooks.customer.com/in", "scheme"),
        ("https://user@hooks.customer.com/in", "userinfo"),
        ("https://hooks.customer.com/in#part", "fragment"),
        ("https://hooks.customer.com/in put", "characters"),
        ("https://hooks.customer.com:8000/in", "port"),
        ("https://hooks/in", "host"),
        ("https://10.0.0.1/in", "address"),
        ("https://hooks.customer.com/" + "a" * 2022, "length"),
        ("/in", "url"),
    ],
)
def test_refusal_names_the_rule(url: str, broken: str) -> None:
    """A refused URL is answered with the name of the one rule that it breaks."""
    assert rule(url) == broken


def test_refusal_never_tells_an_address() -> None:
    """The sentence for a denied address is the same for every address."""
    first, second = (check_url(f"https://{host}/", EgressPolicy()) for host in ("10.0.0.1", "169.254.169.254"))
    assert first == second


def test_longest_url_is_accepted() -> None:
    """A URL of exactly 2,048 characters is accepted, one more is not."""
    url = "https://hooks.customer.com/".ljust(2048, "a")
    assert rule(url) is None
    assert rule(url + "a") == "length"


def test_deployment_may_allow_http() -> None:
    """Where the deployment allows http, an http URL is accepted, but not for a product that requires https."""
    policy = EgressPolicy.parse(https_required=False)
    assert rule("http://hooks.customer.com/in", policy) is None
    assert rule("http://hooks.customer.com/in", policy, https_only=True) == "https"


def test_allowed_literal_is_exempt() -> None:
    """A literal in an allowed network is exempt from the address table, the port list and the deployment's https."""
    checked = check_url("http://127.0.0.1:9123/x", LOOPBACK)
    assert isinstance(checked, CheckedUrl)
    assert checked.allowed_only


def test_product_rule_holds_in_allowed_networks() -> None:
    """A product's own https rule holds in an allowed network too."""
    assert rule("http://127.0.0.1:9123/x", LOOPBACK, https_only=True) == "https"
    assert rule("https://127.0.0.1:9123/x", LOOPBACK, https_only=True) is None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "api.localhost"])
def test_localhost_follows_the_allowed_loopback(host: str) -> None:
    """`localhost` is accepted exactly where the loopback's address is allowed."""
    assert rule(f"https://{host}:9123/", LOOPBACK) is None
    assert rule(f"https://{host}:9123/", INSIDE) == "host"
    assert rule(f"https://{host}:9123/") == "host"


@pytest.mark.parametrize("url", ["http://kafka:9092/", "http://db.internal/", "http://hooks.customer.com:25/"])
def test_allowed_loopback_opens_no_other_names(url: str) -> None:
    """Where only the loopback is allowed, other names follow the rules for everyone."""
    assert rule(url, LOOPBACK) is not None


def test_allowed_network_is_reached_by_name() -> None:
    """Where a network is allowed, a name that only its network knows is let through, bound to that network."""
    checked = check_url("http://erp.corp.internal:9443/in", INSIDE)
    assert isinstance(checked, CheckedUrl)
    assert checked.allowed_only


def test_public_name_is_not_bound() -> None:
    """A URL that follows the rules for everyone is not bound to the allowed networks."""
    checked = check_url("https://hooks.customer.com/in", INSIDE)
    assert isinstance(checked, CheckedUrl)
    assert not checked.allowed_only


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.customer.com:443/in?x=1&y=%20z",
        "https://HOOKS.Customer.COM./In",
        "https://my_host.customer.com/in",
        "https://bücher.customer.com/ü?ü=1",
        "https://xn--bcher-kva.customer.com",
        "https://[2606:4700:4700:0::1111]:8443/in/@me",
        "https://[::ffff:8.8.8.8]/a:b@c",
        "https://8.8.8.8?x=http://127.0.0.1/",
        "https://hooks.customer.com//127.0.0.1/",
    ],
)
def test_all_parsers_read_the_same_host(url: str) -> None:
    """What the guard has accepted is read by httpx and by aiohttp's parser with the same scheme, host and port."""
    checked = check_url(url, EgressPolicy())
    assert isinstance(checked, CheckedUrl)
    parts = checked.parts
    sent = httpx.URL(checked.url)
    connected = yarl.URL(str(sent))
    assert (sent.scheme, sent.raw_host.decode(), sent.port or 443) == (parts.scheme, parts.host, parts.port)
    assert (connected.scheme, connected.raw_host, connected.port) == (parts.scheme, parts.host, parts.port)


@pytest.mark.parametrize("allow", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "*"])
def test_unreadable_network_is_a_settings_error(allow: str) -> None:
    """A network that cannot be read, or has host bits, stops the start with a sentence that names it."""
    with pytest.raises(SettingsError, match="egress allow"):
        EgressPolicy.parse(allow)


def test_ports_can_be_set() -> None:
    """The port list is a setting; what is no port stops the start."""
    policy = EgressPolicy.parse(ports="443, 9443")
    assert rule("https://hooks.customer.com:9443/", policy) is None
    assert rule("https://hooks.customer.com:8443/", policy) == "port"
    with pytest.raises(SettingsError, match="egress ports"):
        EgressPolicy.parse(ports="443 0")
