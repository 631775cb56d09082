from __future__ import annotations

from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from pipeline.profiles import PROFILES, Profile, examples

TYPES = [(profile, name) for profile in PROFILES.values() for name in profile.catalogue.by_name]


def accepts(profile: Profile, event_type: str, data: Any) -> bool:
    return bool(Draft202012Validator(profile.catalogue.schema(event_type)).is_valid(data))


def example(profile: Profile, event_type: str) -> Any:
    return orjson.loads(next(one.data for one in examples(profile.name) if one.type == event_type))


@pytest.mark.parametrize(("profile", "event_type"), TYPES, ids=lambda one: one if isinstance(one, str) else one.name)
def test_every_type_has_a_schema_that_takes_its_example(profile: Profile, event_type: str) -> None:
    """The schema is one of draft 2020-12, says something, and its example is an event of it; no text is."""
    schema = profile.catalogue.schema(event_type)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]
    assert accepts(profile, event_type, example(profile, event_type))
    assert not accepts(profile, event_type, "text")


def test_a_type_of_the_customers_own_may_hold_anything() -> None:
    """Where a catalogue is open its types are not ours to describe."""
    standard = PROFILES["standard"]
    assert all(accepts(standard, one.type, orjson.loads(one.data)) for one in examples("standard"))
    assert accepts(standard, "any.type", None)


@pytest.mark.parametrize(("profile", "event_type"), TYPES, ids=lambda one: one if isinstance(one, str) else one.name)
def test_a_schema_forbids_no_more_than_the_products_rule(profile: Profile, event_type: str) -> None:
    """A field that a schema does not name is allowed, but where the page says which there are."""
    more = {**example(profile, event_type), "something_new": 1}
    assert accepts(profile, event_type, more) is (profile.name != "inspectorio")


@pytest.mark.parametrize(
    ("profile", "event_type", "data", "taken"),
    [
        ("inspectorio", "report.created", {"resourceId": "7", "path": "/"}, False),
        ("inspectorio", "report.created", {"resourceId": 7}, False),
        ("monitorqa", "AUDIT_DELETED", {}, False),
        ("monitorqa", "CORRECTIVE_ACTION_DELETED", {"correctiveActionId": "a", "correctiveAction": None}, True),
        ("monitorqa", "CORRECTIVE_ACTION_DELETED", {"correctiveActionId": "a", "correctiveAction": {}}, False),
        ("monitorqa", "CORRECTIVE_ACTION_UPDATED", {"correctiveActionId": "a", "correctiveAction": None}, False),
        ("monitorqa", "TEMPLATE_CREATED", {"id": "t"}, False),
        ("monithq", "incident_created", {"incident_id": "i", "site_name": "Main Website", "severity": "high"}, True),
        ("monithq", "incident_created", {"incident_id": 7}, False),
        ("qase", "case.updated", {"id": 7}, True),
        ("qase", "case.updated", {"id": "7"}, False),
        ("qase", "case.updated", {"title": "t"}, False),
        ("qase", "run.updated", {"id": 7, "cases": [1, "2"]}, False),
        ("qase", "shared_step.created", {"hash": "a", "steps": [{"action": "b", "attachments": []}]}, True),
        ("bugbounty", "comment.created", {"comment_id": 7}, False),
    ],
)
def test_a_schema_is_as_strict_as_the_page(profile: str, event_type: str, data: Any, taken: bool) -> None:  # noqa: FBT001
    """What the page shows may be missing; what an event is about may not, and types hold."""
    assert accepts(PROFILES[profile], event_type, data) is taken
