"""One event on its way to one webhook: the delivery, its attempts, and what they come to."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from pipeline.flow.event import EVENT_ID_BYTES, ID, TYPE_CHARACTERS, Event

_PATH = re.compile("/".join([ID.pattern] * 3))


class Verdict(StrEnum):
    """What an attempt came to: the whole vocabulary."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    GONE = "gone"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    REDIRECT = "redirect"
    BLOCKED = "blocked"
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"
    PROXY = "proxy"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Origin:
    """The record of `events` that a delivery came from, and the subscriptions offset that its router had read up to."""

    topic: str
    partition: int
    offset: int
    subscriptions_offset: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook.

    `body` is rendered once, by the router: every attempt sends the same bytes. `attempt` is the next attempt's number,
    from 1. It holds no secrets: the sender looks the subscription up when it sends. One of a `replay` names it, and
    `first`: the id of the event's delivery to this webhook without a replay.
    """

    id: str
    tenant: str
    webhook: str
    event: str
    type: str
    source: str | None
    time_ms: int
    body: bytes
    attempt: int
    origin: Origin
    replay: str | None = None
    first: str | None = None

    @property
    def path(self) -> str:
        """The key of its records: `tenant/webhook`."""
        return f"{self.tenant}/{self.webhook}"


@dataclass(frozen=True, slots=True)
class Carriage:
    """What travels in a delivery's Kafka headers, so that the delay role never decodes the record.

    `round` is empty first and fresh after each redelivery; `hop` counts the writes of this delivery to `deliveries`
    or a tier in the round; `wait_ms` is what is left to wait; `slot_ms` the reserved time (milliseconds since the
    epoch), 0 for none. `stands_for` is the hop of a writing whose request was still under way when this one was made to
    carry the delivery on, None for an ordinary writing. `order` is the id of the order over dead letters that has begun
    the round, None where nobody has ordered more than this one delivery.
    """

    round: str = ""
    hop: int = 0
    wait_ms: int = 0
    slot_ms: int = 0
    stands_for: int | None = None
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The delivery has arrived."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt after `wait_ms` (a sum of the ladder's tiers)."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt: a dead letter with this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """No request was made and none will be: the webhook is gone or not active, or the delivery was cancelled."""


Next = Done | Retry | Dead | Skipped


@dataclass(frozen=True, slots=True)
class Answers:
    """The record of `deliveries` that an attempt answers."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what it came to. Headers have their secrets masked; the response's body is cut at 16 KiB."""

    delivery: str
    round: str
    hop: int
    event: str
    tenant: str
    webhook: str
    type: str
    attempt: int
    started_ms: int
    duration_ms: int
    verdict: Verdict
    status_code: int | None
    request_headers: tuple[tuple[str, str], ...]
    response_headers: tuple[tuple[str, str], ...]
    response_body: bytes
    next: Next
    answers: Answers


@dataclass(frozen=True, slots=True, repr=False)
class ClientCertificate:
    """Who the sender is to an endpoint that asks (mutual TLS): a chain, its leaf first, and the leaf's key, in PEM."""

    certificate: str
    private_key: str


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A POST to an endpoint. `deadline_s` covers everything, from the name's look-up to the last byte of the answer.

    `client_certificate` is shown to the URL's own origin alone, and only if it asks for one.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    deadline_s: float
    max_redirects: int = 0
    https_only: bool = False
    client_certificate: ClientCertificate | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: `failure` is a verdict when no whole answer came, else None with the answer's parts."""

    failure: Verdict | None
    status: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    duration_ms: int


def fault(delivery: Delivery) -> str | None:
    """What makes a delivery one that no router wrote, in words that begin with the field's name; None if fine."""
    if not _PATH.fullmatch(f"{delivery.id}/{delivery.tenant}/{delivery.webhook}"):
        return "id, tenant and webhook must each be 1 to 64 letters, digits, _ or -"
    if len(delivery.event) > EVENT_ID_BYTES or len(delivery.type) > TYPE_CHARACTERS:
        return "event or type is longer than an event's may be"
    return None if delivery.attempt > 0 else "attempt must be 1 or more"


def delivery_id(event: Event, webhook: str, digest: bytes, replay: str | None = None) -> str:
    """The id of `event` for `webhook`: the same for every repeat, and never shared by two different events.

    A SHA-256 over tenant, webhook, source, event id, type, digest of the data and replay id, each preceded by its
    length (so that no two lists of values read alike), of which 128 bits are kept: `msg_` and 26 characters of
    base32.
    """
    parts = (event.tenant, webhook, event.source, event.id, event.type, digest, replay)
    whole = hashlib.sha256(b"".join(map(_delimited, parts)))
    return "msg_" + base64.b32encode(whole.digest()[:16])[:26].decode()


def _delimited(part: str | bytes | None) -> bytes:
    if part is None:
        return b"-"
    raw = part.encode() if isinstance(part, str) else part
    return b"%d:%b" % (len(raw), raw)
