"""Which redirects are followed, and what goes along. Pure.

A redirect repeats the same POST: 301 and 302 too, which browsers turn into GET. A 303 means "look there", not "send
it there".
"""

from __future__ import annotations

from urllib.parse import urldefrag, urljoin

FOLLOWED = frozenset({301, 302, 307, 308})
_SENT_ANYWHERE = frozenset({"content-type", "user-agent"})
_SENT_ANYWHERE_PREFIX = "webhook-"


def hop_url(base: str, location: str) -> str | None:
    """The absolute URL that `location` (relative or not, RFC 9110, section 10.2.2) means at `base`.

    None if it means none.
    """
    if any(character <= " " or character == "\x7f" for character in location):
        return None  # urljoin would drop them silently
    try:
        return urldefrag(urljoin(base, location)).url
    except ValueError:
        return None


def without_credentials(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What is sent to another origin than the first: the message, without anything that opens a door.

    Authorization, a product's secret and a customer's own headers stay behind. `webhook-*` goes along: id, time and
    signature belong to this one message, are worth nothing for another, and without them the new place could only
    refuse it.
    """
    return tuple((name, value) for name, value in headers if _may_travel(name.lower()))


def _may_travel(name: str) -> bool:
    return name in _SENT_ANYWHERE or name.startswith(_SENT_ANYWHERE_PREFIX)
