"""The search finds what it is to find: otherwise its finding nothing would mean nothing."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from tests.secrets.canaries import Hunt, Place

pytestmark = pytest.mark.secrets

TEXT = 'canary+7f3a/4c "81d2" é'
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLANTED = {
    "raw": TEXT.encode(),
    "base64": base64.b64encode(TEXT.encode()),
    "base64 after one byte": base64.b64encode(b":" + TEXT.encode()),
    "base64 after two bytes": base64.b64encode(b"u:" + TEXT.encode()),
    "base64 within more": base64.b64encode(b"user:" + TEXT.encode() + b":more"),
    "base64 of URLs": base64.urlsafe_b64encode(b"?~" + TEXT.encode()),
    "hex": TEXT.encode().hex().encode(),
    "a URL": f"http://user:{quote(TEXT, safe='')}@host".encode(),
    "JSON": json.dumps({"secret": TEXT}).encode(),
}


@pytest.mark.parametrize("form", PLANTED)
def test_a_secret_is_found_in_every_form(form: str) -> None:
    """Wherever it lies and whatever lies around it."""
    hunt = Hunt()
    hunt.add("password", TEXT)
    assert hunt.found([Place("a log", b"\0before" + PLANTED[form] + b"after\0")]) == ["password in a log"]


@pytest.mark.parametrize("held", [KEY.encode(), base64.b64decode(KEY.removeprefix("whsec_")), KEY[6:].encode()])
def test_a_key_is_found_by_its_text_and_by_its_bytes(held: bytes) -> None:
    """A webhook's secret is a text that encodes a key: both are secret."""
    hunt = Hunt()
    hunt.add("secret", KEY)
    assert hunt.found([Place("topic", held), Place("shown once", held, frozenset({"secret"}))]) == ["secret in topic"]


def test_what_may_be_shown_is_no_find() -> None:
    """The mask that answers show of a secret is not the secret."""
    hunt = Hunt()
    hunt.add("secret", KEY)
    assert hunt.found([Place("an answer", b'{"secret":"whsec_\\u2026LaSw"}')]) == []
