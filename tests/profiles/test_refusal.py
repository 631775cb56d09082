from __future__ import annotations

import pytest

from pipeline.flow.deadletter import Reason
from pipeline.profiles import PROFILES, Profile, examples
from pipeline.profiles._rules import LATEST_MS
from tests.profiles.makers import event

BROKEN = ["", "{", "nonsense", "{'a': 1}", '{"a": NaN}', '{"a":1}}', '{"a":1} x', "\ufeff{}", '"\ud800"', "[" * 5000]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("data", BROKEN)
def test_data_must_be_json(profile: Profile, data: str) -> None:
    """What would break the body is refused before it is rendered, in words that begin with the field."""
    refused = profile.refusal(event(examples(profile.name)[0].type, data, "40"))
    assert refused is not None
    assert refused[0] is Reason.INVALID
    assert refused[1].startswith("data is not JSON")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("name", ["", "no such", "report.created ", "*", "a..b", ".a", "a\n", "ä", "x" * 129])
def test_a_type_must_be_of_the_product(profile: Profile, name: str) -> None:
    """An event type outside the catalogue is refused as unknown."""
    refused = profile.refusal(event(name, "{}", "40"))
    assert refused is not None
    assert refused[0] is Reason.UNKNOWN_TYPE
    assert refused[1].startswith("type ")


@pytest.mark.parametrize("name", ["invoice.paid", "a", "A_b-9.c.d", "x" * 128, "endpoint.failing"])
def test_standard_takes_any_type_that_is_well_formed(name: str) -> None:
    """Letters, digits, hyphens and underscores in parts between full stops, up to 128 characters."""
    assert PROFILES["standard"].refusal(event(name)) is None


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("time_ms", [-1, LATEST_MS, 2**62])
def test_a_time_must_have_a_date(profile: Profile, time_ms: int) -> None:
    """A time before 1970 or after 9999 is refused, as no body could say it."""
    refused = profile.refusal(event(examples(profile.name)[0].type, examples(profile.name)[0].data, "40", time_ms))
    assert refused is not None
    assert refused[1].startswith("time ")


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        "[]",
        "null",
        '{"resourceId":"1","path":"/r"}',
        '{"resourceId":1.0,"path":"/r"}',
        '{"resourceId":true,"path":"/r"}',
        '{"resourceId":1,"path":null}',
        '{"resourceId":1}',
        '{"resourceId":1,"path":"/r","more":1}',
    ],
)
def test_inspectorio_sends_a_resource_and_its_path(data: str) -> None:
    """Payloads are exactly an integer resourceId and a path in text."""
    assert PROFILES["inspectorio"].refusal(event("report.created", '{"path":"/r","resourceId":1}')) is None
    refused = PROFILES["inspectorio"].refusal(event("report.created", data))
    assert refused == (Reason.INVALID, "data must be {resourceId: integer, path: string} and nothing else")


@pytest.mark.parametrize("actor", [None, "", "bob", "4.0", "040", "+4", "4 ", "1e3", "٤", "9" * 30, "--1"])
def test_qase_needs_the_number_of_who_did_it(actor: str | None) -> None:
    """`team_member_id` is an integer, so an actor that is none is refused."""
    assert PROFILES["qase"].refusal(event("case.created", "{}", "40")) is None
    refused = PROFILES["qase"].refusal(event("case.created", "{}", actor))
    assert refused is not None
    assert refused[1].startswith("actor ")


@pytest.mark.parametrize("name", ["monitorqa", "qase"])
@pytest.mark.parametrize("data", ["[]", "1", "null", '"text"'])
def test_products_whose_pages_say_object_take_objects(name: str, data: str) -> None:
    """Their receivers read fields of the data, so anything else is refused."""
    assert PROFILES[name].refusal(event(examples(name)[0].type, data, "40")) == (
        Reason.INVALID,
        "data must be a JSON object",
    )
