"""Every kind of misbehaviour, one row each: the receiver, and what a delivery to it comes to under `standard`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trustme

from pipeline.flow.deliver import Verdict
from tests.hostile import scripts
from tests.hostile.scripts import BOMB, CHUNKED, ENDLESS, HEAD, resets, says
from tests.http.endpoints import OK, Endpoint, Script, listening, tls_for

Serve = Callable[[trustme.CA], AbstractAsyncContextManager[Endpoint]]


@dataclass(frozen=True)
class Row:
    """A receiver (`serve` gets the authority that the client trusts), and the verdict and status of its delivery.

    A row that is `cut` is known for what it is long before the deadline.
    """

    serve: Serve
    verdict: Verdict
    status: int | None = None
    body: bytes = b"{}"
    redirects: int = 0
    cut: bool = False


def _plain(script: Script, verdict: Verdict, status: int | None = None, *, cut: bool = False, body: bytes = b"") -> Row:
    return Row(lambda _authority: listening(script), verdict, status, body or b"{}", cut=cut)


def _asking(status: int, verdict: Verdict, *values: str) -> Row:
    asked = "".join(f"Retry-After: {value}\r\n" for value in values)
    answer = f"HTTP/1.1 {status} Later\r\n{asked}Content-Length: 0\r\n\r\n".encode()
    return _plain(says(answer), verdict, status, cut=True)


def _cut_short(size: int) -> tuple[Verdict, int | None]:
    return (Verdict.PROTOCOL, 200) if b"\r\n\r\n" in OK[:size] else (Verdict.CONNECT, None)


SILENCE = {
    "never accepts": Row(lambda _authority: scripts.never_accepting(), Verdict.TIMEOUT),
    "never answers": _plain(says(), Verdict.TIMEOUT),
    "never reads": _plain(scripts.never_reads, Verdict.TIMEOUT, body=bytes(8_000_000)),
}
DRIPS = {
    "header drip": _plain(says(HEAD + b"X-Slow: ", forever=b"a", every_s=0.02), Verdict.TIMEOUT),
    "body drip": _plain(says(HEAD + b"Content-Length: 9999\r\n\r\n", forever=b"a", every_s=0.02), Verdict.TIMEOUT, 200),
    "chunk drip": _plain(says(CHUNKED, forever=b"1\r\na\r\n", every_s=0.02), Verdict.TIMEOUT, 200),
    "1xx drip": _plain(says(forever=b"HTTP/1.1 102 Processing\r\n\r\n", every_s=0.1), Verdict.TIMEOUT),
    "status drip": _plain(says(forever=b"H", every_s=0.02), Verdict.PROTOCOL, cut=True),
}
FLOODS = {
    "endless body": _plain(says(HEAD + b"\r\n", forever=ENDLESS), Verdict.DELIVERED, 200, cut=True),
    "endless long body": _plain(
        says(HEAD + b"Content-Length: 9999999999\r\n\r\n", forever=ENDLESS), Verdict.DELIVERED, 200, cut=True
    ),
    "endless chunk": _plain(says(CHUNKED + b"FFFFFFFF\r\n", forever=ENDLESS), Verdict.DELIVERED, 200, cut=True),
    "gzip bomb": _plain(
        says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        Verdict.DELIVERED,
        200,
        cut=True,
    ),
    "1xx flood": _plain(says(forever=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500), Verdict.PROTOCOL, cut=True),
    "header flood": _plain(says(HEAD, forever=b"X-A: b\r\n" * 1000), Verdict.PROTOCOL, cut=True),
    "endless header": _plain(says(HEAD + b"X-A: ", forever=ENDLESS), Verdict.TOO_LARGE, cut=True),
    "flood of long headers": _plain(says(HEAD, forever=b"X-A: %b\r\n" % ENDLESS[:8000]), Verdict.TOO_LARGE, cut=True),
    "one header of 20 KB": _plain(says(HEAD + b"X-A: %b\r\n\r\n" % ENDLESS[:20_000]), Verdict.TOO_LARGE, cut=True),
    "endless status": _plain(says(b"HTTP/1.1 200 ", forever=ENDLESS), Verdict.TOO_LARGE, cut=True),
}
NONSENSE = {
    "garbage": _plain(says(bytes(range(256)) * 10), Verdict.PROTOCOL, cut=True),
    "another protocol": _plain(says(b"SSH-2.0-OpenSSH_9.2\r\n"), Verdict.PROTOCOL, cut=True),
    "negative length": _plain(says(HEAD + b"Content-Length: -1\r\n\r\n"), Verdict.PROTOCOL, cut=True),
    "two lengths": _plain(says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), Verdict.PROTOCOL, cut=True),
    "too short a body": _plain(
        says(HEAD + b"Content-Length: 9\r\n\r\nok", then_close=True), Verdict.PROTOCOL, 200, cut=True
    ),
    "broken chunk": _plain(says(CHUNKED + b"zz\r\n"), Verdict.PROTOCOL, cut=True),
    "second answer at once": _plain(scripts.answers_twice(0), Verdict.REJECTED, 500, cut=True),
    "second answer later": _plain(scripts.answers_twice(0.02), Verdict.REJECTED, 500, cut=True),
    "switch of protocols": _plain(
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        Verdict.REJECTED,
        101,
        cut=True,
    ),
}
ENDINGS = {
    "close at once": _plain(says(then_close=True), Verdict.CONNECT, cut=True),
    **{
        f"close after {size} bytes": _plain(says(OK[:size], then_close=True), *_cut_short(size), cut=True)
        for size in range(1, len(OK))
    },
    "reset at once": _plain(resets(), Verdict.CONNECT, cut=True),
    "reset in the head": _plain(resets(HEAD), Verdict.CONNECT, cut=True),
}
REDIRECTS = {
    "redirect to itself": Row(
        lambda _authority: scripts.redirecting(to="/hook"), Verdict.REDIRECT, 307, redirects=5, cut=True
    ),
    "redirect without end": Row(
        lambda _authority: scripts.redirecting(to="/{n}"), Verdict.REDIRECT, 307, redirects=5, cut=True
    ),
}
WAITS = {
    "Retry-After of 10^12": _asking(503, Verdict.REJECTED, "1000000000000"),
    "Retry-After, negative": _asking(503, Verdict.REJECTED, "-1"),
    "Retry-After, past": _asking(503, Verdict.REJECTED, "Wed, 21 Oct 2015 07:28:00 GMT"),
    "Retry-After, in the year 9999": _asking(503, Verdict.REJECTED, "Fri, 31 Dec 9999 23:59:59 GMT"),
    "Retry-After, two of them": _asking(503, Verdict.REJECTED, "60", "180"),
    "429": _asking(429, Verdict.RATE_LIMITED),
    "429 and soon": _asking(429, Verdict.RATE_LIMITED, "1"),
    "410": _asking(410, Verdict.GONE, "60"),
}
TLS = {
    "self-signed certificate": Row(lambda _authority: scripts.secured(scripts.self_signed()), Verdict.TLS, cut=True),
    "certificate for another host": Row(
        lambda authority: scripts.secured(tls_for(authority, "hooks.customer.com")), Verdict.TLS, cut=True
    ),
    "expired certificate": Row(lambda authority: scripts.secured(scripts.expired(authority)), Verdict.TLS, cut=True),
    "handshake stall": Row(lambda _authority: scripts.behind_https(scripts.stalls), Verdict.TIMEOUT),
    "plain http where tls is due": Row(
        lambda _authority: scripts.behind_https(scripts.says_at_once(OK)), Verdict.TLS, cut=True
    ),
    "garbage in the handshake": Row(
        lambda _authority: scripts.behind_https(scripts.says_at_once(bytes(range(256)) * 100)), Verdict.TLS, cut=True
    ),
}
ROWS: dict[str, Row] = {**SILENCE, **DRIPS, **FLOODS, **NONSENSE, **ENDINGS, **REDIRECTS, **WAITS, **TLS}
