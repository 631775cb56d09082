"""Records that the API alone writes: keys, outcomes of tests, cancellations, and who changed what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Undecodable
from pipeline.flow.access import ApiKey, Role
from pipeline.flow.audit import Audit
from pipeline.flow.cancels import Cancel
from pipeline.flow.trials import WebhookTest
from pipeline.kafka import control_records
from pipeline.kafka.changes import Change, ControlRecord, Forgotten, Removed, record_of
from pipeline.kafka.schemas import load
from tests.kafka.test_codec import AVRO, INT, LONG, MAYBE, TEXT, knowing, written
from tests.workers.parts import CODEC, NOW_MS

KEYS = st.builds(
    *(ApiKey, TEXT, TEXT, st.binary(max_size=40), st.sampled_from(Role), MAYBE, MAYBE, LONG, st.none() | LONG)
)
TESTS = st.builds(WebhookTest, TEXT, TEXT, TEXT, TEXT, INT, LONG, INT)
CANCELS = st.builds(Cancel, TEXT, TEXT, TEXT, TEXT, LONG)
AUDITS = st.builds(Audit, TEXT, LONG, TEXT, TEXT, TEXT, MAYBE, TEXT, TEXT)
KEY = ApiKey("k1", "whk", bytes(32), Role.OWNER, "acme", "CI", NOW_MS)
AUDIT = Audit("aud_1", NOW_MS, "k1", "owner", "createWebhook", "acme", "wh_1")


@given(KEYS)
def test_a_key_comes_back(key: ApiKey) -> None:
    """What is encoded as a record of `keys` is decoded as it was."""
    assert CODEC.decode_api_key(CODEC.encode_api_key(key)) == key


@given(TESTS)
def test_an_outcome_of_a_test_comes_back(test: WebhookTest) -> None:
    """What is encoded as a record of `webhook-tests` is decoded as it was."""
    assert CODEC.decode_webhook_test(CODEC.encode_webhook_test(test)) == test


@given(CANCELS)
def test_a_cancellation_comes_back(cancel: Cancel) -> None:
    """What is encoded as a record of `cancels` is decoded as it was."""
    assert CODEC.decode_cancel(CODEC.encode_cancel(cancel)) == cancel


@given(AUDITS)
def test_an_audit_comes_back(audit: Audit) -> None:
    """What is encoded as a record of `audit` is decoded as it was."""
    assert CODEC.decode_audit(CODEC.encode_audit(audit)) == audit


def test_a_cancellation_from_before_rounds() -> None:
    """A record that was written without `round` is read: the first round was meant."""
    older = load("cancel")
    older = {**older, "fields": [one for one in older["fields"] if one["name"] != "round"]}
    cancel = Cancel("msg_1", "", "acme", "k1", NOW_MS)
    value = written(older, control_records.from_cancel(cancel))
    assert knowing(older).decode_cancel(value) == cancel


def test_a_role_that_this_version_does_not_know() -> None:
    """A key with a role of a newer version cannot be read, and so opens nothing."""
    newer = load("api_key")
    role = {**newer["fields"][3]["type"], "symbols": ["auditor"]}
    newer = {**newer, "fields": [*newer["fields"][:3], {"name": "role", "type": role}, *newer["fields"][4:]]}
    value = written(newer, {**control_records.from_api_key(KEY), "role": "auditor"}, AVRO)
    with pytest.raises(Undecodable):
        knowing(newer).decode_api_key(value)


def test_each_change_is_one_record() -> None:
    """A change is written under the key of its topic; what is gone is a tombstone there."""
    test, cancel = WebhookTest("acme", "wh_1", "success", ""), Cancel("msg_1", "r1", "acme", "k1", NOW_MS)
    places: dict[tuple[str, str], Change | Audit] = {
        ("keys", "k1"): KEY,
        ("webhook-tests", "acme/wh_1"): test,
        ("cancels", "msg_1"): cancel,
        ("audit", "acme"): AUDIT,
        ("audit", "_platform"): Audit("aud_2", NOW_MS, "admin", "platform_admin", "createKey", None, "k2"),
    }
    for place, change in places.items():
        record = record_of(change, CODEC)
        assert ((record.topic, record.key), record.value is not None) == (place, True)
    assert record_of(Forgotten("keys", "k1"), CODEC) == ControlRecord("keys", "k1", None)
    assert record_of(Removed("acme", "wh_1"), CODEC) == ControlRecord("subscriptions", "acme/wh_1", None)
    assert record_of(Removed("acme"), CODEC) == ControlRecord("tenants", "acme", None)
