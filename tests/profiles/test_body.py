from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.event import Event
from pipeline.flow.subscription import Tenant
from pipeline.flow.times import iso_milliseconds, iso_seconds
from pipeline.profiles import PROFILES, Profile, examples
from pipeline.profiles._body import time_uuid
from pipeline.profiles._rules import LATEST_MS
from tests.profiles.makers import NOW_MS, TENANT, event

TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TIMES = st.integers(0, LATEST_MS - 1)
HOSTILE = '"},"admin":true,"x":{"'


def _data_of(body: bytes) -> object:
    parsed = orjson.loads(body)
    return next(parsed[key] for key in ("data", "payload") if key in parsed)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@given(data=JSON, time_ms=TIMES, name=TEXT, delivery_id=TEXT)
def test_any_event_becomes_json_with_its_data_unchanged(
    profile: Profile, data: object, time_ms: int, name: str, delivery_id: str
) -> None:
    """Whatever data, time and names hold, the body is JSON with just that data, and a second rendering is equal."""
    kind = examples(profile.name)[0].type
    text = json.dumps(data, ensure_ascii=False)
    tenant = Tenant("demo", name, profile.name)
    whole = Event("e", "demo", kind, time_ms, text, "40")
    body = profile.body(whole, tenant, delivery_id)
    assert _data_of(body) == data
    assert text.encode() in body
    assert profile.body(whole, tenant, delivery_id) == body


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_data_reaches_the_endpoint_as_its_producer_wrote_it(profile: Profile) -> None:
    """Digits, blanks, escapes and the order of keys survive, also where a parser would lose them."""
    kind = examples(profile.name)[0].type
    data = '{"z": 1.10, "a":12345678901234567890123, "e":1E5,"\\u00fc": "\\/"}'
    assert data.encode() in profile.body(event(kind, data, "40"), TENANT, "msg_1")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_id_or_name_can_break_out_of_its_string(profile: Profile) -> None:
    """A tenant's name or id and a delivery's id full of quotes leave the body's keys as they are."""
    kind = examples(profile.name)[0].type
    plain = orjson.loads(profile.body(event(kind, "{}", "40"), TENANT, "msg_1"))
    hostile = orjson.loads(profile.body(event(kind, "{}", "40"), Tenant(HOSTILE, HOSTILE, profile.name), HOSTILE))
    assert list(hostile) == list(plain)


@given(time_ms=TIMES)
def test_times_are_written_as_iso_8601_in_utc(time_ms: int) -> None:
    """The text reads back as the very millisecond; whole seconds are cut, never rounded up."""
    assert datetime.fromisoformat(iso_milliseconds(time_ms)).timestamp() * 1000 == pytest.approx(time_ms, abs=0.5)
    assert datetime.fromisoformat(iso_seconds(time_ms // 1000)) == datetime.fromtimestamp(time_ms // 1000, UTC)
    assert iso_milliseconds(time_ms)[:19] == iso_seconds(time_ms // 1000)[:19]


@given(time_ms=st.integers(0, 10**13), seed=TEXT)
def test_a_message_id_is_a_version_1_uuid_of_the_events_time(time_ms: int, seed: str) -> None:
    """Version 1, RFC variant, the event's time as its time, and a node that is no machine's address."""
    made = uuid.UUID(time_uuid(time_ms, seed))
    assert (made.version, made.variant) == (1, uuid.RFC_4122)
    assert (made.time - 0x01B21DD213814000) // 10_000 == time_ms
    assert made.node >> 40 & 1
    assert time_uuid(time_ms, seed) == str(made)


def test_message_ids_of_two_deliveries_differ() -> None:
    """One event for two webhooks has two message ids, each the same on every rendering."""
    render = PROFILES["inspectorio"].body
    whole = event("report.created", '{"resourceId":1,"path":"/reports/1"}')
    first, again, other = (orjson.loads(render(whole, TENANT, d))["messageId"] for d in ("msg_1", "msg_1", "msg_2"))
    assert first == again != other
    assert first.startswith("wh-")
    assert uuid.UUID(first[3:]).time // 10_000 == NOW_MS + 0x01B21DD213814000 // 10_000
