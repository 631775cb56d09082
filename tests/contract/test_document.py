"""The OpenAPI document is whole: whoever has nothing else can write a client, and a receiver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from pipeline.api.app import create_app
from pipeline.api.document import JSON
from pipeline.flow.event import Event
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES, examples
from tests.api.parts import memory_parts

pytestmark = pytest.mark.contract

DOCUMENT: dict[str, Any] = create_app(memory_parts().deps).openapi()
OPERATIONS: dict[str, dict[str, Any]] = {
    one["operationId"]: one
    for where in ("paths", "webhooks")
    for path in DOCUMENT[where].values()
    for one in path.values()
}


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body that it takes or gives, by where."""
    yield from (("asked", one) for one in operation.get("requestBody", {}).get("content", {}).values())
    for status, answer in operation["responses"].items():
        yield from ((f"{status} {kind}", one) for kind, one in answer.get("content", {}).items())


def judged(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value of that schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def test_it_is_openapi_3_1_and_says_how_to_authenticate() -> None:
    """Version, licence, the bearer key for all that is not asked without one."""
    assert re.fullmatch(r"3\.1\.\d", DOCUMENT["openapi"])
    assert DOCUMENT["info"]["license"]["identifier"] == "Apache-2.0"
    assert DOCUMENT["security"] == [{"key": []}]
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    open_ones = {name for name, one in OPERATIONS.items() if one.get("security") == []}
    assert open_ones == {"healthz", "readyz", "metrics", *(f"{name}Event" for name in PROFILES)}


def test_every_name_is_a_name() -> None:
    """Generated clients are made of these: no schema is named after a module of ours, each tag is explained."""
    assert [name for name in DOCUMENT["components"]["schemas"] if not re.fullmatch(r"[A-Z]\w*", name)] == []
    assert {tag for one in OPERATIONS.values() for tag in one["tags"]} == {one["name"] for one in DOCUMENT["tags"]}
    assert all(one["description"] for one in DOCUMENT["tags"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_explained(name: str) -> None:
    """Summary, description, each parameter with words and an example, each status with words."""
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"] != parameter["name"], parameter
        assert "example" in parameter or "examples" in parameter.get("schema", {}), parameter
    assert all(answer["description"] for answer in operation["responses"].values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_body_has_an_example_that_fits(name: str) -> None:
    """What a client may send, what it gets, and each refusal: with an example that keeps to the schema."""
    for where, content in contents(OPERATIONS[name]):
        if name in {"healthz", "readyz", "metrics"}:
            continue
        found = [one["value"] for one in content.get("examples", {}).values()] or [content["example"]]
        for value in found:
            assert judged(content["schema"], value) == [], f"{where}: {value}"


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_sends_is_said(profile: str) -> None:
    """Each example of its catalogue as it would be sent; the headers of its own requests; which answers count."""
    operation = DOCUMENT["webhooks"][profile]["post"]
    content = operation["requestBody"]["content"][JSON]
    assert set(content["examples"]) == {example.type for example in examples(profile)}
    names = {one["name"].lower() for one in operation["parameters"]}
    schemes = PROFILES[profile].schemes
    assert {"webhook-id", "webhook-timestamp", *(h.lower() for one in schemes for h in one.headers)} <= names
    accepted = {200 + n for n in range(100) if 200 + n in PROFILES[profile].acknowledged}
    assert set(operation["responses"]) >= ({"2XX"} if len(accepted) == 100 else set(map(str, accepted)))


@pytest.mark.parametrize("profile", PROFILES)
def test_another_event_keeps_to_the_schema_too(profile: str) -> None:
    """The schema holds for any event of the product, not for its examples alone; for another product's it does not."""
    event = Event("e", "t", examples(profile)[0].type, 0, '{"other": [1, null]}', actor="9")
    body = PROFILES[profile].body(event, Tenant("t", "T", profile), "msg_1")
    schema = DOCUMENT["webhooks"][profile]["post"]["requestBody"]["content"][JSON]["schema"]
    assert judged(schema, orjson.loads(body)) == []
    assert judged(schema, {"name": "not this"})


def test_rules_of_fields_are_in_the_document() -> None:
    """A mutant of each kind of example is refused by the schema: they say more than `object`."""
    schema = {"$ref": "#/components/schemas/WebhookIn"}
    assert judged(schema, {"url": "https://example.com/"}) == []
    assert judged(schema, {}) != []
    assert judged(schema, {"url": "https://example.com/", "rate": 0}) != []
    assert judged(schema, {"url": "https://example.com/", "unknown": 1}) != []
