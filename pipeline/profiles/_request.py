"""The request of an attempt: the headers that every product sends, what proves the sender, and the customer's own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version

from pipeline.flow.deliver import ClientCertificate, Delivery, Outcome, OutgoingRequest
from pipeline.profiles._scheme import Headers, Signer

USER_AGENT = f"WebhookPipeline/{version('webhook-pipeline')}"
ALWAYS: Headers = (("Content-Type", "application/json"), ("User-Agent", USER_AGENT))
MASK = "***"

OURS = (*(name for name, _ in ALWAYS), "webhook-id", "webhook-timestamp")
"""The headers of every request, whatever the product."""
_SIGNATURES = frozenset({"webhook-signature"})
"""Masked where headers are shown, but worth nothing to anybody."""
_MASKED_FROM = 6
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


def without_echo(outcome: Outcome, headers: Headers) -> Outcome:
    """The outcome without what the endpoint repeats of the secrets in `headers`, those of its request.

    Some endpoints answer with all that they were sent. Values of fewer than 6 characters are let be: masking them would
    tear innocent words.
    """
    told = [one for value in _secret_values(headers) if len(value) >= _MASKED_FROM for one in _spellings(value)]
    if not any(one.encode() in outcome.body or any(one in text for _, text in outcome.headers) for one in told):
        return outcome
    body, kept = outcome.body, outcome.headers
    for one in sorted(told, key=len, reverse=True):
        body = body.replace(one.encode(), MASK.encode())
        kept = tuple((name, text.replace(one, MASK)) for name, text in kept)
    return replace(outcome, headers=kept, body=body)


def _secret_values(headers: Headers) -> Iterator[str]:
    for name, value in headers:
        if name.lower() in _SHOWN or name.lower() in _SIGNATURES:
            continue
        yield value
        _, blank, token = value.partition(" ")
        if blank and name.lower() == "authorization":
            yield token
            yield from _basic(token)


def _basic(token: str) -> Iterator[str]:
    """Of HTTP Basic what is encoded in it: an endpoint may tell it in the open."""
    try:
        account = base64.b64decode(token, validate=True).decode()
    except ValueError:
        return
    yield account
    yield account.partition(":")[2]


def _spellings(value: str) -> set[str]:
    """As it is, and as JSON writes it."""
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
