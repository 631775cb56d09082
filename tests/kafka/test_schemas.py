from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import avro.schema
import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference

from pipeline.errors import PipelineError, Unreachable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Verdict
from pipeline.kafka import schemas
from pipeline.kafka.schemas import SUBJECTS, incompatibilities, load
from pipeline.settings import Settings
from tests.live_cluster import LiveCluster

NAMES = tuple(SUBJECTS.values())
JSON_SCHEMA = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
Loaded = dict[str, Any]


def fields(schema: Loaded) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in schema["fields"]}


def bare(schema: Any) -> Any:
    """A schema without its words and the namespace that an embedding one gives."""
    match schema:
        case dict():
            return {key: bare(value) for key, value in schema.items() if key not in {"doc", "namespace"}}
        case list():
            return [bare(item) for item in schema]
    return schema


def symbols(schema: Any, name: str) -> list[str]:
    """The symbols of the enum of that name, wherever it stands."""
    if isinstance(schema, dict):
        if schema.get("name") == name and "symbols" in schema:
            return list(schema["symbols"])
        schema = list(schema.values())
    if isinstance(schema, list):
        return next((found for item in schema if (found := symbols(item, name))), [])
    return []


def with_field(schema: Loaded, field: Loaded) -> Loaded:
    changed = copy.deepcopy(schema)
    changed["fields"].append(field)
    return changed


def test_every_file_has_a_subject() -> None:
    """Each file of the folder is registered under one subject, and no subject lacks its file."""
    assert {path.stem for path in (Path(__file__).parents[2] / "schemas").glob("*.avsc")} == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_parses(name: str) -> None:
    """Both libraries take every schema: fastavro, which reads records, and Apache's, which checks them."""
    assert fastavro.parse_schema(load(name))
    parsed: Any = avro.schema.parse(json.dumps(load(name)))
    assert parsed.namespace == "pipeline"


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_reads_its_own(name: str) -> None:
    """A schema is compatible with itself."""
    assert incompatibilities(load(name), load(name)) == []


@pytest.mark.parametrize(("embedded", "name"), [("delivery", "delivery"), ("last_attempt", "attempt")])
def test_a_dead_letter_embeds_what_travels(embedded: str, name: str) -> None:
    """The delivery and attempt inside a dead letter are the records of their own topics, field by field."""
    _null, inside = fields(load("dead_letter"))[embedded]
    assert bare(inside)["fields"] == bare(load(name))["fields"]
    assert inside["name"] == load(name)["name"]


def test_the_enums_are_the_code_s_vocabularies() -> None:
    """Verdicts, reasons and next steps are the same words in the schemas and in the code."""
    assert symbols(load("attempt"), "Verdict") == [verdict.value for verdict in Verdict]
    assert symbols(load("dead_letter"), "Reason") == [reason.value for reason in Reason]
    assert symbols(load("attempt"), "NextKind") == ["done", "retry", "dead", "skipped"]


@pytest.mark.contract
@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("event", "id tenant type time data actor subject source"),
        ("delivery", "id tenant webhook event type source time body attempt origin replay"),
        (
            "attempt",
            """delivery round hop event tenant webhook type attempt started duration_ms verdict status_code
            request_headers response_headers response_body next answers""",
        ),
        ("dead_letter", "id reason topic partition offset key value headers delivery last_attempt time"),
        (
            "subscription",
            """tenant webhook name url events components active auth headers filter rate max_in_flight generation
            created updated projection""",
        ),
        ("tenant", "id name profile plan programs limits validation"),
    ],
)
def test_the_contract_s_fields_are_there(name: str, names: str) -> None:
    """Other people's clients read these fields by these names."""
    assert set(names.split()) <= set(fields(load(name)))


@pytest.mark.contract
def test_the_contract_s_types() -> None:
    """An event's time is in milliseconds, its data text; the other three may be null."""
    event = fields(load("event"))
    assert event["time"] == {"type": "long", "logicalType": "timestamp-millis"}
    assert event["data"] == event["id"] == event["tenant"] == event["type"] == "string"
    assert event["actor"] == event["subject"] == event["source"] == ["null", "string"]
    assert fields(load("delivery"))["body"] == "bytes"
    assert set(fields(fields(load("delivery"))["origin"])) == {"topic", "partition", "offset", "subscriptions_offset"}
    assert set(fields(fields(load("attempt"))["answers"])) == {"partition", "offset"}


@pytest.mark.parametrize("name", NAMES)
def test_a_new_field_needs_a_default(name: str) -> None:
    """A field that older records do not have is compatible only with a default."""
    without = with_field(load(name), {"name": "added", "type": "string"})
    (line,) = incompatibilities(without, load(name))
    assert "added" in line
    assert (
        incompatibilities(with_field(load(name), {"name": "added", "type": "string", "default": ""}), load(name)) == []
    )


def test_a_changed_type_is_incompatible() -> None:
    """What was written as text cannot be read as a number."""
    changed = copy.deepcopy(load("event"))
    changed["fields"][0]["type"] = "long"
    assert incompatibilities(changed, load("event"))


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return Settings(schema_registry=cluster.registry)


def test_registering_twice_changes_nothing(settings: Settings) -> None:
    """Every subject has one id, the same each time, and what is registered is what we have."""
    first = schemas.register(settings)
    assert schemas.register(settings) == first
    assert set(first) == set(SUBJECTS)
    assert schemas.check(settings) == []
    with schemas.registry(settings) as client:
        assert schemas.ids(client) == first
        for subject, name in SUBJECTS.items():
            assert client.get_compatibility(subject) == "BACKWARD"
            held = (schemas.written(client, first[subject]) or [{}])[-1]
            assert incompatibilities(load(name), held) == incompatibilities(held, load(name)) == []


def test_an_unregistered_schema_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subject that the registry does not have is a failure that says what to run."""
    monkeypatch.setattr(schemas, "SUBJECTS", {"never-value": "event"})
    assert schemas.check(settings) == ["! never-value: not registered"]
    with schemas.registry(settings) as client, pytest.raises(PipelineError, match=r"never-value.*schemas register"):
        schemas.ids(client)


def test_an_incompatible_schema_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry refuses what could not read the records there, and `check` says why."""
    monkeypatch.setattr(schemas, "SUBJECTS", {"changing-value": "event"})
    schemas.register(settings)
    incompatible = with_field(load("event"), {"name": "added", "type": "string"})
    monkeypatch.setattr(schemas, "load", lambda _name: incompatible)
    (line,) = schemas.check(settings)
    assert line.startswith("! changing-value: ")
    assert "added" in line
    with pytest.raises(PipelineError, match="changing-value: the registry refuses the schema"):
        schemas.register(settings)


def test_an_unknown_id_is_unknown(settings: Settings) -> None:
    """An id that the registry does not have is no fault, and no schema."""
    with schemas.registry(settings) as client:
        assert schemas.written(client, 2**31 - 1) is None


def test_a_schema_that_is_not_avro_is_unknown(settings: Settings) -> None:
    """A JSON Schema's id is nothing that a record can be read by."""
    with schemas.registry(settings) as client:
        number = client.register_schema("as-json-value", Schema(JSON_SCHEMA, "JSON"))
        assert schemas.written(client, number) is None


def test_a_schema_comes_with_what_it_refers_to(settings: Settings) -> None:
    """Schemas that a schema refers to come before it, each once."""
    money = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}
    line = {"type": "record", "name": "Line", "fields": [{"name": "price", "type": "Money"}]}
    order = {
        "type": "record",
        "name": "Order",
        "fields": [{"name": "line", "type": "Line"}, {"name": "sum", "type": "Money"}],
    }
    to_money, to_line = (SchemaReference(name, f"{name.lower()}-value", 1) for name in ("Money", "Line"))
    with schemas.registry(settings) as client:
        client.register_schema("money-value", Schema(json.dumps(money), "AVRO"))
        client.register_schema("line-value", Schema(json.dumps(line), "AVRO", [to_money]))
        number = client.register_schema("order-value", Schema(json.dumps(order), "AVRO", [to_line, to_money]))
        found = schemas.written(client, number) or []
    assert [schema["name"] for schema in found] == ["Money", "Line", "Order"]


HTML = b"<html>Welcome to the corporate proxy</html>"
NO_ANSWERS: dict[str, tuple[int, bytes]] = {
    **{f"status {status}": (status, b'{"error_code": %d, "message": "no"}' % status) for status in (401, 403, 429)},
    **{f"status {status}": (status, HTML) for status in (404, 500, 502, 503)},
    "a page": (200, HTML),
    "nothing": (200, b""),
    "an empty object": (200, b"{}"),
    "a list": (200, b"[1]"),
    "a text": (200, b'"yes"'),
    "a schema that is a number": (200, b'{"schema": 7}'),
    "cut JSON": (200, b'{"schema": "\\"str'),
}


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_what_is_no_answer_says_nothing_about_a_schema(what: str) -> None:
    """Wrong credentials, a limit, a fault or a page in the registry's place: the caller waits, and asks again."""
    said = [NO_ANSWERS[what]]
    with _registry(lambda: said[0]) as url, schemas.registry(Settings(schema_registry=url)) as client:
        with pytest.raises(Unreachable, match="registry"):
            schemas.written(client, 1)
        with pytest.raises(Unreachable, match="registry"):
            schemas.ids(client)
        said[0] = 200, b'{"schema": "\\"string\\""}'
        assert schemas.written(client, 1) == ["string"]


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[" * 100_000, '"' + "x" * 2_000_000 + '"', '{"type": "array", "items": ' * 50_000]
)
def test_a_schema_that_is_none_is_unknown(text: str) -> None:
    """What the registry tells as a schema and is none, or is too large, is nothing that a record can be read by."""
    told = json.dumps({"schema": text}).encode()
    with _registry(lambda: (200, told)) as url, schemas.registry(Settings(schema_registry=url)) as client:
        assert schemas.written(client, 1) is None


def test_schemas_that_refer_to_each_other_are_asked_for_once() -> None:
    """References that lead back, or are shared many times over, cost one question each."""
    asked: list[int] = []
    names = [{"name": f"R{n}", "subject": f"r{n}", "version": 1} for n in range(12)]
    told = json.dumps({"schema": '"int"', "references": names, "subject": "s", "id": 1, "version": 1}).encode()

    def answer() -> tuple[int, bytes]:
        asked.append(1)
        return 200, told

    with _registry(answer) as url, schemas.registry(Settings(schema_registry=url)) as client:
        assert schemas.written(client, 1) == ["int"] * 13
    assert len(asked) <= 13


@contextmanager
def _registry(answer: Callable[[], tuple[int, bytes]]) -> Iterator[str]:
    """A registry that answers every request like this."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """As told."""
            status, said = answer()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET  # noqa: N815 - the name is the standard library's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_registry_that_is_down_is_unreachable() -> None:
    """A registry that does not answer is told apart from one that knows no such schema."""
    with (
        schemas.registry(Settings(schema_registry="http://127.0.0.1:1")) as client,
        pytest.raises(Unreachable, match="the schema registry does not answer"),
    ):
        schemas.written(client, 1)
