"""The request of an attempt: the headers that every product sends, what proves the sender, and the customer's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

from pipeline.flow.deliver import ClientCertificate, Delivery, OutgoingRequest
from pipeline.profiles._scheme import Headers, Signer

USER_AGENT = f"WebhookPipeline/{version('webhook-pipeline')}"
ALWAYS: Headers = (("Content-Type", "application/json"), ("User-Agent", USER_AGENT))
MASK = "***"

OURS = (*(name for name, _ in ALWAYS), "webhook-id", "webhook-timestamp")
"""The headers of every request, whatever the product."""
_SHOWN = frozenset(
    (
        *(name.lower() for name in OURS),
        *("webhook-test", "webhook-replay-id", "webhook-first-id"),
        *("accept", "accept-encoding", "content-length", "host"),
    )
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Requests to one webhook with one set of secrets: all that does not change is made once."""

    url: str
    sign: Signer
    own: Headers
    deadline_s: float
    max_redirects: int
    https_only: bool
    client_certificate: ClientCertificate | None = None

    def request(self, delivery: Delivery, timestamp_s: int, extra: Headers = ()) -> OutgoingRequest:
        """The POST of this attempt, stamped with `timestamp_s` (seconds since the epoch) and signed for it.

        `extra` are headers of ours for this delivery alone, such as `webhook-test`.
        """
        timestamp = str(timestamp_s)
        stamped = (("webhook-id", delivery.id), ("webhook-timestamp", timestamp))
        headers = (*ALWAYS, *stamped, *extra, *self.sign(delivery.id, timestamp, delivery.body), *self.own)
        return OutgoingRequest(
            self.url,
            headers,
            delivery.body,
            self.deadline_s,
            self.max_redirects,
            self.https_only,
            self.client_certificate,
        )


def without(headers: Headers, taken: Iterable[str]) -> Headers:
    """The headers whose names are not taken: a customer's header never replaces or doubles one of ours."""
    names = {name.lower() for name in taken}
    return tuple((name, value) for name, value in headers if name.lower() not in names)


def masked_headers(headers: Headers) -> Headers:
    """Headers as an attempt records them: only values that can hold no secret are shown.

    A customer's own header may hold a token under any name, so what may be shown is listed, not what may not.
    """
    return tuple([header if header[0].lower() in _SHOWN else (header[0], MASK) for header in headers])
