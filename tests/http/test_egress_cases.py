"""Every row of `ssrf_cases.tsv`: the value, and what the guard must say of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from pipeline.flow.deliver import Verdict
from pipeline.http.faults import Blocked, NotResolved
from pipeline.http.guard import EgressPolicy, check_url, judge_address
from pipeline.http.headers import check_customer_headers
from pipeline.http.names import GuardedResolver, NameServers
from pipeline.http.url_rules import Refusal
from tests.http.conftest import MakeClient
from tests.http.endpoints import Received, answering, canary, loopback_canaries, post, redirect
from tests.http.name_server import NXDOMAIN, SILENT, Zone, name_server

pytestmark = pytest.mark.egress

NAME = "hooks.customer.com"
PUBLIC_ONLY = EgressPolicy(https_required=False)
_ESCAPES = {r"\r": "\r", r"\n": "\n", r"\t": "\t"}


def _unescape(text: str) -> str:
    return re.sub(r"\\[rnt]|\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPES[m[0]], text)


async def to_loopback(_host: str) -> Sequence[str]:
    """A look-up that leads every name to the canaries."""
    return ["127.0.0.1", "::1"]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where the canaries listen, on all of the loopback; they are never hit."""
    async with loopback_canaries() as birds:
        yield birds[0].port
        assert [bird.connections for bird in birds] == [0, 0]


def at(port: int, url: str) -> str:
    """The same URL at another port, if it names none."""
    found = re.match(r"(https?://[^/?#\\]*)(.*)", url, re.DOTALL)
    return f"{found[1]}:{port}{found[2]}" if found and not re.search(r":-?\d*$", found[1]) else url


def _rows() -> list[tuple[str, bool]]:
    lines = Path(__file__).with_name("ssrf_cases.tsv").read_text(encoding="utf-8").splitlines()
    return [(value, expected == "allow") for value, expected in (line.split("\t") for line in lines)]


ROWS = _rows()
KINDS = ("dns:", "redirect:", "env:", "header:")


def rows(kind: str) -> list[tuple[str, bool]]:
    """The rows of one kind, without the kind's name; those of no kind are URLs."""
    if kind:
        return [(value.removeprefix(kind), allowed) for value, allowed in ROWS if value.startswith(kind)]
    return [(_unescape(value), allowed) for value, allowed in ROWS if not value.startswith(KINDS)]


def test_no_row_is_left_out() -> None:
    """Each row of the file belongs to exactly one of the kinds tested here."""
    assert [len(rows(kind)) for kind in ("", *KINDS)] == [150, 16, 4, 1, 3]
    assert len(ROWS) == 174


@pytest.mark.parametrize(("url", "allowed"), rows(""), ids=[value[:60] for value, _ in rows("")])
async def test_url(url: str, allowed: bool, make_client: MakeClient, port: int) -> None:  # noqa: FBT001
    """A URL is judged the same when it is written and, by refusing to connect, when it is sent to.

    Also with a port at which somebody listens who must never be hit, and with every name leading there.
    """
    checked = check_url(url, PUBLIC_ONLY)
    assert isinstance(checked, Refusal) is not allowed
    if not isinstance(checked, Refusal):
        assert checked.parts.address is None or judge_address(str(checked.parts.address), PUBLIC_ONLY)
        return
    policy = EgressPolicy(https_required=False, ports=frozenset({*PUBLIC_ONLY.ports, port}))
    client = make_client(policy, lookup=to_loopback)
    outcomes = [await client.send(post(where)) for where in (url, at(port, url))]
    assert [(outcome.failure, outcome.duration_ms) for outcome in outcomes] == [(Verdict.BLOCKED, 0)] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "hooks.customer.com"])  # noqa: S104
async def test_canaries_would_be_hit(host: str, make_client: MakeClient) -> None:
    """Where the deployment allows the loopback, the same requests arrive: the canaries above are in the right place."""
    async with loopback_canaries() as birds:
        port = birds[0].port
        allowed = "127.0.0.0/8 ::1/128 0.0.0.0/32"
        client = make_client(EgressPolicy.parse(allowed, https_required=False, ports=str(port)), lookup=to_loopback)
        outcome = await client.send(post(at(port, f"http://{host}/")))
        assert (outcome.status, sum(bird.connections for bird in birds)) == (200, 1)


def _zone(case: str) -> Zone:
    """The zone that a DNS row describes."""
    if case == "NXDOMAIN":
        return NXDOMAIN
    if case.startswith("hang"):
        return SILENT
    if case.startswith("CNAME->"):
        return Zone([[("CNAME", case.removeprefix("CNAME->")), ("A", "10.96.0.10" if "svc" in case else "127.0.0.1")]])
    if case.startswith("flip"):
        return Zone([[("A", "8.8.8.8")], [("A", "169.254.169.254")]])
    if case.endswith(" x1000"):
        return Zone([[("A", f"8.8.{i // 250}.{i % 250}") for i in range(1000)]])
    kinds = (part.split("=") for part in case.split(";"))
    return Zone([[(kind, address) for kind, addresses in kinds for address in addresses.split(",")]])


MORE_DNS = [
    (case, False)
    for case in ("A=127.0.0.1", "A=0.0.0.0", "AAAA=::1", "AAAA=::ffff:127.0.0.1", "A=8.8.8.8,127.0.0.1", "AAAA=::")
]
"""Rows that lead to the canaries."""
DNS = [*rows("dns:"), *MORE_DNS]


@pytest.mark.parametrize(("case", "allowed"), DNS, ids=[value for value, _ in DNS])
async def test_dns(case: str, allowed: bool, make_client: MakeClient, port: int) -> None:  # noqa: FBT001
    """A name whose look-up ends like this is denied or resolved; each answer of a real name server is judged."""
    async with name_server({NAME: _zone(case)}) as server:
        lookup = NameServers([server.address])
        resolver = GuardedResolver(lookup, PUBLIC_ONLY, allowed_only=False, deadline_s=0.5)
        try:
            if case.startswith("flip"):
                await resolver.resolve(NAME, 443)
            if allowed:
                found = await resolver.resolve(NAME, 443)
                assert 1 <= len(found) <= 8
                return
            with pytest.raises((Blocked, NotResolved)):
                await resolver.resolve(NAME, 443)
            policy = EgressPolicy(https_required=False, ports=frozenset({port}))
            client = make_client(policy, lookup=lookup, lookup_deadline_s=0.5)
            outcome = await client.send(post(f"http://{NAME}:{port}/in"))
            expected = Verdict.DNS if case.startswith(("NXDOMAIN", "hang")) else Verdict.BLOCKED
            assert (outcome.failure, outcome.status) == (expected, None)
        finally:
            await lookup.close()


@pytest.mark.parametrize(("case", "allowed"), rows("redirect:"), ids=[value for value, _ in rows("redirect:")])
async def test_redirect(case: str, allowed: bool, make_client: MakeClient) -> None:  # noqa: FBT001
    """A redirect to a place that may not be reached, or without an end, is not followed.

    The canary there is never hit.
    """
    assert not allowed
    status, _, target = case.partition("->")
    async with canary("127.0.0.1") as bird:

        def answer(request: Received) -> bytes:
            here = target.replace(":9092", "").replace("127.0.0.1", f"127.0.0.1:{bird.port}")
            return redirect(int(status), request.line.split()[1] if target.startswith("self") else here)

        async with answering(answer, "127.0.0.2") as endpoint:
            client = make_client(EgressPolicy.parse("127.0.0.2/32", https_required=False))
            outcome = await client.send(post(endpoint.url(), max_redirects=5))
    assert outcome.failure is (Verdict.REDIRECT if target.startswith("self") else Verdict.BLOCKED)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
async def test_proxy_of_the_environment(
    variable: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy named in the environment is ignored: the request arrives, and the proxy is never asked."""
    async with canary() as bird, answering() as endpoint:
        monkeypatch.setenv(variable, bird.url(""))
        outcome = await make_client().send(post(endpoint.url()))
    assert outcome.status == 200
    assert rows("env:")[0][1]


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "X-Forwarded-For", "x-forwarded-proto", "Connection", "Transfer-Encoding", "Content-Length"),
        *("webhook-id", "Webhook-Anything", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Proxy-Authorization"),
        *("Cookie", "Forwarded", "X-Real-IP", "Content-Type", "User-Agent", "Accept-Encoding"),
    ],
)
def test_header_of_ours(name: str) -> None:
    """A customer may not set a header that is ours, that frames the message or that speaks for somebody else."""
    assert [refused for refused, _ in check_customer_headers({name: "metadata.google.internal"})] == [name]


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\rb", "a\0b", "ä", " a", "a\t", "\x7f"])
def test_header_value(value: str) -> None:
    """A customer's header value may hold no line break, and nothing but printable ASCII."""
    assert check_customer_headers({"X-Token": value})
