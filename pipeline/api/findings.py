"""What a test of a configuration has found, in the products' own classes, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from pipeline.flow.deliver import Outcome, Verdict
from pipeline.profiles import Profile


class Finding(StrEnum):
    """What a test came to: the classes of the bug bounty page, and ours."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    REDIRECT_LOOP = "redirect_loop"
    TIMEOUT = "timeout"
    DNS = "dns"
    TLS = "tls"
    CONNECT = "connect"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. `reason` says it more closely where the class is wider; `advice` is one sentence."""

    finding: Finding
    reason: str | None
    advice: str


_OF_VERDICT: Mapping[Verdict, Finding] = {
    Verdict.DELIVERED: Finding.SUCCESS,
    Verdict.TIMEOUT: Finding.TIMEOUT,
    Verdict.DNS: Finding.DNS,
    Verdict.CONNECT: Finding.CONNECT,
    Verdict.TLS: Finding.TLS,
    Verdict.REDIRECT: Finding.REDIRECT_LOOP,
    Verdict.BLOCKED: Finding.BLOCKED,
    Verdict.TOO_LARGE: Finding.SERVER_ERROR,
    Verdict.PROTOCOL: Finding.SERVER_ERROR,
    Verdict.PROXY: Finding.CONNECT,
}
"""The others are answers that the product does not take for an acknowledgement: their status decides."""

_CLOSER = frozenset({Verdict.GONE, Verdict.RATE_LIMITED, Verdict.TOO_LARGE, Verdict.PROTOCOL, Verdict.PROXY})
"""Verdicts that say more than the class does."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
NOT_FOLLOWED, UNACKNOWLEDGED = "not_followed", "unacknowledged"
_CLIENT, _SERVER = HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR
_FINAL = frozenset({Verdict.DELIVERED, Verdict.BLOCKED})

_ADVICE: Mapping[Finding | str, str] = {
    Finding.SUCCESS: "The endpoint has accepted the example: nothing is left to do.",
    Finding.CLIENT_ERROR: "The endpoint refuses the request with {status}: see in its answer and its log what it does "
    "not accept.",
    Finding.SERVER_ERROR: "The endpoint fails with {status} while it handles the request: see its log, repair it, and "
    "test again.",
    Finding.REDIRECT_LOOP: "The redirects lead in a circle, are too many, or point to no usable address: give the URL "
    "of the final page.",
    Finding.TIMEOUT: "There was no whole answer within {deadline} seconds: let the endpoint answer first and do its "
    "work afterwards, and look at its firewall.",
    Finding.DNS: "The name of the host cannot be resolved: check its spelling, and that public name servers know it.",
    Finding.TLS: "No trusted connection came about: the certificate must be valid, complete with its intermediate "
    "ones, and made for this host; if the endpoint asks for a client certificate, give one that it accepts.",
    Finding.CONNECT: "No connection came about, or it broke off before an answer: check host, port and firewall.",
    Finding.BLOCKED: "The URL leads to an address that must not be reached from here: give one that is public.",
    Verdict.GONE: "The endpoint says that it is gone (410), which switches a webhook off: give its new URL.",
    Verdict.RATE_LIMITED: "The endpoint asks for fewer requests (429): raise its limit, or give the webhook a rate.",
    Verdict.TOO_LARGE: "The head of the answer is longer than is read: let the endpoint send fewer or shorter headers.",
    Verdict.PROTOCOL: "What came back is no HTTP, or no whole answer: check that the port is that of a web server.",
    Verdict.PROXY: "Our own way out has failed, not your endpoint: test again later, and tell us if it stays so.",
    NOT_FOLLOWED: "The endpoint redirects ({status}), and redirects are not followed: give the URL of the final page.",
    UNACKNOWLEDGED: "The endpoint answers {status}, which does not count as received: let it answer 200.",
    "access": "The endpoint refuses the request with {status}: check that both sides have the same secret or "
    "credentials, and who may reach it.",
    "place": "The endpoint answers {status}: check the path of the URL, and that it takes POST requests.",
}
_HINTS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "access",
    HTTPStatus.FORBIDDEN: "access",
    HTTPStatus.NOT_FOUND: "place",
    HTTPStatus.METHOD_NOT_ALLOWED: "place",
}


def found(profile: Profile, outcome: Outcome) -> Found:
    """What the end of a request says about the configuration."""
    verdict, status = profile.judge(outcome), outcome.status or 0
    finding = _OF_VERDICT.get(verdict) or _of_status(status)
    reason = _reason(profile, finding, verdict, status)
    words = _ADVICE[reason or _hint(finding, status)]
    return Found(finding, reason, words.format(status=status, deadline=f"{profile.deadline_s:g}"))


def is_final(verdict: Verdict) -> bool:
    """Whether another try could change nothing."""
    return verdict in _FINAL


def _of_status(status: int) -> Finding:
    if status in _REDIRECTS:
        return Finding.REDIRECT_LOOP
    return Finding.CLIENT_ERROR if _CLIENT <= status < _SERVER else Finding.SERVER_ERROR


def _reason(profile: Profile, finding: Finding, verdict: Verdict, status: int) -> str | None:
    if verdict in _CLOSER:
        return verdict.value
    if finding is Finding.REDIRECT_LOOP and not profile.max_redirects:
        return NOT_FOLLOWED
    if finding is Finding.SERVER_ERROR and status < _SERVER:
        return UNACKNOWLEDGED
    return None


def _hint(finding: Finding, status: int) -> Finding | str:
    return _HINTS.get(status, finding) if finding is Finding.CLIENT_ERROR else finding
