"""What keeps a request from being answered, and which verdict it means.

Judged by the cause, not by a client library's class.

(httpx-aiohttp 0.2.0 reports every failed connect as `ConnectTimeout`, a refused one too.)
"""

from __future__ import annotations

import errno
import ssl

from aiohttp import ServerDisconnectedError
from aiohttp.http_exceptions import LineTooLong

from pipeline.flow.deliver import Verdict


class Fault(OSError):
    """A failure that we have named ourselves. An OSError, so that aiohttp carries it to us as a cause."""

    verdict: Verdict

    def __init__(self, message: str) -> None:
        super().__init__(errno.EACCES, message)


class Blocked(Fault):
    """The egress guard refused an address. The message never tells which."""

    verdict = Verdict.BLOCKED


class NotResolved(Fault):
    """The name has no address, or the name servers did not tell one in time."""

    verdict = Verdict.DNS


class AnswerTooLarge(Fault):
    """The head of the answer is longer than we read."""

    verdict = Verdict.TOO_LARGE


class NotHttp(Fault):
    """What came back is not an answer to a request."""

    verdict = Verdict.PROTOCOL


class ProxyFailed(Fault):
    """Our own egress proxy did not do its part: never the endpoint's fault."""

    verdict = Verdict.PROXY


def verdict_of(error: BaseException) -> Verdict:
    """The verdict of a failed request.

    `connect`: no connection, or it broke before the head of an answer was whole. `protocol`: what came is no HTTP
    response, or not all of one.
    """
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, Fault):
            return cause.verdict
    for cause in reversed(causes):  # the deepest knows best
        if (verdict := _verdict_of_one(cause)) is not None:
            return verdict
    return Verdict.PROTOCOL


def _verdict_of_one(cause: BaseException) -> Verdict | None:
    match cause:
        case ssl.SSLError() | ssl.CertificateError():
            return Verdict.TLS
        case TimeoutError(errno=None):
            return Verdict.TIMEOUT
        case OSError() | ServerDisconnectedError():
            return Verdict.CONNECT
        case LineTooLong():
            return Verdict.TOO_LARGE
        case _:
            return None


def _causes(error: BaseException) -> list[BaseException]:
    """The error and its explicit causes, the deepest last."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    return chain
