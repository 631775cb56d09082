"""No secret leaves its place, and a rotation of the deployment's keys loses nothing: one story, then the search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from standardwebhooks import Webhook

from tests.secrets.canaries import Place
from tests.secrets.story import OTHERS, TENANTS, Story, ids, lived_through

pytestmark = [pytest.mark.secrets, pytest.mark.kafka]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with lived_through(tmp_path_factory.mktemp("secrets")) as told:
        yield told


def test_no_secret_is_where_it_must_not_be(story: Story) -> None:
    """Logs, topics, SQL, files, answers, metrics, the OpenAPI document and processes' arguments hold none of them."""
    kinds = {place.name.split(" ")[0] for place in story.places}
    assert {"topic", "table", "arguments", "/metrics", "GET", "POST", "PATCH"} <= kinds, "the search is incomplete"
    names = {place.name for place in story.places}
    assert {"topic attempts", "topic retry-dlq", "topic subscriptions", "topic audit", "table attempts"} <= names
    assert {"logs/sender-0.log", "logs/api-0.log", "logs/recorder-0.log", "log.sqlite"} <= names
    assert len(story.hunt.canaries) > 25
    assert story.hunt.found(story.places) == []


def test_the_endpoints_were_shown_them(story: Story) -> None:
    """The secrets of this run were in use: they came to the endpoints, through the proxy that knows our password."""
    sent = [Place("requests", repr(story.there.got.requests).encode())]
    found = {one.removesuffix(" in requests") for one in story.hunt.found(sent)}
    assert {"header", "bearer token", "given: qase", "Basic password"} <= found
    assert set(story.there.got.tunnels) == {"93.184.216.34:80"}
    attempts = next(place.held for place in story.places if place.name == "topic attempts")
    assert b'"X-Token": "***"' in attempts, "an endpoint that repeats its request has been recorded"


@pytest.mark.parametrize("name", ["topic attempts", "table attempts", "logs/sender-0.log", "POST /v1/tenants: 201"])
def test_a_planted_leak_is_found(story: Story, name: str) -> None:
    """One secret in any of these places, and the search is red."""
    at = next(number for number, place in enumerate(story.places) if place.name == name)
    leak = b"\x0e" + story.hunt.canaries["Basic password"].values[0] + b"\x00"
    planted = replace(story.places[at], held=story.places[at].held + leak)
    assert story.hunt.found([*story.places[:at], planted]) == [f"Basic password in {name}"]


def test_a_rotation_under_load_loses_nothing(story: Story) -> None:
    """Every tenant's key is sealed by the new key, and every event that was sent meanwhile arrived, and verifies."""
    assert story.rotation["left"] == 0
    tenants = len(TENANTS) + 1  # and the pipeline's own
    assert [(key["id"], key["tenants"]) for key in story.status] == [("k2", tenants), ("k1", 0)]
    verifier = Webhook(story.hunt.canaries["generated: load"].values[0].decode())
    arrived = story.there.got.to(story.loaded)
    payloads = [verifier.verify(body, headers) for headers, body in arrived]
    assert len(ids(story.there, story.loaded)) == story.sent + OTHERS
    assert len([one for one in payloads if set(one["data"]) == {"n"}]) == story.sent


def test_a_tenant_of_an_erased_one_s_id_begins_with_nothing(story: Story) -> None:
    """It has its own events alone, and none of the deliveries and webhooks of the one before."""
    assert story.anew == {"events": ["anew"], "deliveries": [], "webhooks": []}
