from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.flow.deliver import OutgoingRequest
from pipeline.flow.event import Event
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES, USER_AGENT
from tests.profiles.makers import delivery

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.json"))


def _sent(profile_name: str, golden: dict[str, Any]) -> OutgoingRequest:
    profile = PROFILES[profile_name]
    tenant = Tenant(profile=profile_name, **golden["tenant"])
    event = Event(tenant=tenant.id, **golden["event"])
    assert profile.refusal(event) is None
    body = profile.body(event, tenant, golden["delivery"])
    prepared = profile.prepare("https://receiver.example/", golden["auth"]["type"], golden["auth"]["secrets"])
    return prepared.request(delivery(body, golden["delivery"]), golden["sent_s"])


def _like(page: object, ours: object) -> bool:
    """The same keys in the same order with values of the same types, all the way down to where the page says `{}`."""
    if isinstance(page, dict) and page:
        assert isinstance(ours, dict)
        return [*page] == [*ours] and all(_like(page[key], ours[key]) for key in page)
    return type(page) is type(ours)


def test_every_profile_has_a_golden_request() -> None:
    """No product is without a request that was written down from its page."""
    assert {file.parent.name for file in FILES} == set(PROFILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_request_is_the_golden_one_to_the_byte(file: Path) -> None:
    """Body and headers are exactly the golden ones, and signatures what OpenSSL made of the golden body."""
    golden = orjson.loads(file.read_bytes())
    request = _sent(file.parent.name, golden)
    assert request.body.decode() == golden["body"]
    assert ("User-Agent", USER_AGENT) in request.headers
    assert [[name, value] for name, value in request.headers if name != "User-Agent"] == golden["headers"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_body_has_the_form_that_the_page_shows(file: Path) -> None:
    """Keys, their order and the types of their values are those of the example on the product's page."""
    golden = orjson.loads(file.read_bytes())
    assert _like(golden["page"], orjson.loads(golden["body"]))


@pytest.mark.parametrize("name", ["qase", "monithq"])
def test_the_examples_of_a_page_come_out_word_for_word(name: str) -> None:
    """Where a page shows a whole message, an event with its data becomes just that message."""
    file = next(file for file in FILES if file.parent.name == name)
    golden = orjson.loads(file.read_bytes())
    assert orjson.loads(_sent(name, golden).body) == golden["page"]
