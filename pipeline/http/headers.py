"""Which headers a customer may add to the requests of a webhook. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_HEADERS = 20
MAX_NAME = 100
MAX_VALUE = 4096
MAX_TOTAL = 8192
"""Names and values together, in characters."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?", re.ASCII)  # RFC 9110, section 5.5, without obs-text
_FRAMING = (
    *("connection", "content-encoding", "content-length", "expect", "host", "keep-alive"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
)
_OURS = ("accept-encoding", "content-type", "user-agent")  # the body's form, what we can read, and who we are
_IDENTITY = ("cookie", "forwarded", "x-real-ip")  # what would speak for somebody else
_FORBIDDEN = frozenset((*_FRAMING, *_OURS, *_IDENTITY))
_FORBIDDEN_PREFIXES = ("proxy-", "webhook-", "x-forwarded-")


def check_customer_headers(headers: Mapping[str, str], reserved: Collection[str] = ()) -> list[tuple[str, str]]:
    """What is wrong with these headers: (name, reason) for each that is refused; an empty list if all may be sent.

    `reserved`: further names, in lower case, that the webhook's product sets itself. A refusal of all of them has the
    name "".
    """
    refused = [(name, reason) for name, value in headers.items() if (reason := _refuse(name, value, reserved))]
    if len(headers) > MAX_HEADERS:
        refused.append(("", f"There must be at most {MAX_HEADERS} headers"))
    if len({name.lower() for name in headers}) < len(headers):
        refused.append(("", "Each header may be given once, in whatever case it is written"))
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_TOTAL:
        refused.append(("", f"All headers together must have at most {MAX_TOTAL} characters"))
    return refused


def _refuse(name: str, value: str, reserved: Collection[str]) -> str | None:
    if len(name) > MAX_NAME or not _TOKEN.fullmatch(name):
        return f"A header's name must be letters, digits and hyphens, at most {MAX_NAME}"
    lower = name.lower()
    if lower in _FORBIDDEN or lower in reserved or lower.startswith(_FORBIDDEN_PREFIXES):
        return "This header is set by the platform"
    if len(value) > MAX_VALUE:
        return f"A header's value must have at most {MAX_VALUE} characters"
    if value and not _VALUE.fullmatch(value):
        return "A header's value must be printable ASCII on one line, without spaces at its ends"
    return None
