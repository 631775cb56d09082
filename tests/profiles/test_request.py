from __future__ import annotations

import base64
import json

import pytest

from pipeline.flow.deliver import Outcome
from pipeline.profiles import MASK, PROFILES, masked_headers, without_echo
from tests.profiles.makers import ID, delivery

SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
CUSTOMERS = (
    ("X-Token", "canary"),
    ("authorization", "Bearer canary"),
    ("CONTENT-TYPE", "text/plain"),
    ("Webhook-Id", "x"),
)


def test_a_request_has_its_webhooks_url_and_its_products_limits() -> None:
    """URL, deadline, redirects and the rule on HTTPS go with the request to the client."""
    prepared = PROFILES["bugbounty"].prepare("https://x.example/in", "standard_webhooks", SECRET)
    request = prepared.request(delivery(b'{"a":1}'), 1614265330)
    assert (request.url, request.body) == ("https://x.example/in", b'{"a":1}')
    assert (request.deadline_s, request.max_redirects, request.https_only) == (15.0, 5, True)


def test_every_attempt_is_signed_anew() -> None:
    """A later attempt has the same id and body, its own timestamp and its own signature."""
    prepared = PROFILES["standard"].prepare("https://x.example/", "standard_webhooks", SECRET)
    first, second = (dict(prepared.request(delivery(), at).headers) for at in (1614265330, 1614265335))
    assert first["webhook-id"] == second["webhook-id"] == ID
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1614265330", "1614265335")
    assert first["webhook-signature"] != second["webhook-signature"]


def test_customers_headers_are_sent_but_replace_none_of_ours() -> None:
    """A customer's header goes along unless its name is one that the product sets itself, in whatever case."""
    prepared = PROFILES["standard"].prepare("https://x.example/", "standard_webhooks", SECRET, CUSTOMERS)
    assert prepared.request(delivery(), 1).headers[-2:] == CUSTOMERS[:2]
    account = {"username": "u", "password": "p"}
    basic = PROFILES["inspectorio"].prepare("https://x.example/", "basic", account, CUSTOMERS)
    names = [name.lower() for name, _ in basic.request(delivery(), 1).headers]
    assert len(names) == len(set(names))


def test_headers_of_ours_for_one_delivery_are_sent() -> None:
    """A test of a configuration marks its requests."""
    prepared = PROFILES["monitorqa"].prepare("https://x.example/", "none", {})
    assert ("webhook-test", "true") in prepared.request(delivery(), 1, (("webhook-test", "true"),)).headers


@pytest.mark.parametrize(
    ("name", "auth_type", "secrets"),
    [
        ("standard", "standard_webhooks", SECRET),
        ("qase", "qase_secret", {"secret": "canary-text"}),
        ("monithq", "monithq_hmac", {"secret": "canary-text"}),
        ("inspectorio", "basic", {"username": "canary", "password": "canary"}),
    ],
)
def test_an_attempt_records_no_secret(name: str, auth_type: str, secrets: dict[str, str]) -> None:
    """Credentials, signatures and all of a customer's own headers are masked; what helps to find a fault is not."""
    request = PROFILES[name].prepare("https://x.example/", auth_type, secrets, CUSTOMERS).request(delivery(), 7)
    masked = masked_headers(request.headers)
    assert [name for name, _ in masked] == [name for name, _ in request.headers]
    shown = {name: value for name, value in masked if value != MASK}
    assert set(shown) == {"Content-Type", "User-Agent", "webhook-id", "webhook-timestamp"}
    assert "canary" not in str(masked)


@pytest.mark.parametrize(("auth_type", "secrets"), [("basic", {}), ("none", {}), ("standard_webhooks", {})])
def test_what_the_product_would_have_refused_is_a_fault_of_ours(auth_type: str, secrets: dict[str, str]) -> None:
    """A scheme that the product does not have, or secrets that cannot sign, never lead to an unsigned request."""
    with pytest.raises(ValueError, match="cannot authenticate"):
        PROFILES["standard"].prepare("https://x.example/", auth_type, secrets)


ECHOED = (
    ("Content-Type", "application/json"),
    ("webhook-signature", "v1,abcdefgh"),
    ("X-Token", 'a "token"'),
    ("Authorization", "Basic " + base64.b64encode(b"user:pass word").decode()),
    ("X-Team", "blue"),
)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b'X-Token: a "token", X-Team: blue', b"X-Token: ***, X-Team: blue"),
        (json.dumps({"headers": dict(ECHOED)}).encode(), None),
        (b"hello user:pass word, or only pass word", b"hello ***, or only ***"),
        (b"v1,abcdefgh application/json", b"v1,abcdefgh application/json"),
    ],
)
def test_what_an_endpoint_repeats_of_its_secrets_is_masked(said: bytes, kept: bytes | None) -> None:
    """An answer is kept without the secrets of its own request, as they are, in JSON, or decoded; the rest stays."""
    outcome = Outcome(None, 200, (("X-Echo", said.decode()),), said, 1)
    found = without_echo(outcome, ECHOED)
    assert b"token" not in found.body
    assert b"pass word" not in found.body
    assert b"dXNlcj" not in found.body
    assert found.headers == (("X-Echo", found.body.decode()),)
    assert kept in {None, found.body}
