"""The nouns, against a running API."""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path

import pytest
import trustme

from pipeline.flow.event import Event
from tests.api.parts import Parts
from tests.cli.conftest import Command
from tests.http.mutual import client_certificate

_numbers = itertools.count()
URL = "https://example.com/hook"
ONE = '{"id":"1","type":"a","data":1.0}'


@pytest.fixture
def tenant(api: Command) -> str:
    """A tenant of the test's own."""
    name = f"t-{next(_numbers)}"
    assert api("tenants", "create", name, "--profile", "standard").code == 0
    return name


def events_of(served: tuple[str, Parts], tenant: str) -> list[Event]:
    return [event for event in served[1].ingest.events if event.tenant == tenant]


def test_tenants(api: Command) -> None:
    """A tenant is made, changed, listed and removed; data is on stdout, the rest on stderr."""
    made = api("tenants", "create", "p1", "--profile", "qase", "--plan", "startup", "-o", "json").json
    assert (made["id"], made["name"], made["plan"]) == ("p1", "p1", "startup")
    assert "p1" in api("tenants", "list").out
    assert api("tenants", "update", "p1", "--plan", "", "-o", "json").json["plan"] is None
    assert "There is a tenant p1 already" in api.refused("tenants", "create", "p1", "--profile", "qase")
    assert "id: This must" in api.refused("tenants", "create", "x" * 65, "--profile", "qase")
    said = api("tenants", "delete", "p1")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("tenant p1 is removed: 0 webhooks, 0 keys, 0 rows\n")
    assert "stays in attempts, up to 30 days: headers of requests, secrets masked" in said.err
    assert "no such tenant" in api.refused("tenants", "show", "p1")


def test_webhooks(api: Command, tenant: str) -> None:
    """A webhook's whole life on the command line."""
    made = api("webhooks", "create", tenant, "--url", URL, "--event", "a.*", "--header", "X-A: 1", "-o", "json").json
    webhook = made["id"]
    assert made["auth"]["secret"].startswith("whsec_")
    assert made["headers"] == {"X-A": "***"}
    shown = api("webhooks", "show", tenant, webhook)
    assert made["auth"]["secret"] not in shown.out
    changed = api("webhooks", "update", tenant, webhook, "--name", "n", "--header", "X-A:", "-o", "json").json
    assert (changed["name"], changed["headers"], changed["events"]) == ("n", {}, ["a.*"])
    assert api("webhooks", "deactivate", tenant, webhook, "-o", "json").json["status"] == "inactive"
    assert api("webhooks", "activate", tenant, webhook, "-o", "json").json["status"] == "active"
    rotated = api("webhooks", "rotate-secret", tenant, webhook, "-o", "json").json
    assert rotated["rotation"]["previous_until"]
    assert [one["id"] for one in api("webhooks", "list", tenant, "-o", "jsonl").lines] == [webhook]
    assert api("webhooks", "delete", tenant, webhook).code == 0
    assert api("webhooks", "list", tenant, "-o", "json").json == []


def test_a_refusal_names_field_and_reason(api: Command) -> None:
    """What the API refuses is one line with each field and the product's own reason, and exit code 2."""
    api("tenants", "create", "bb", "--profile", "bugbounty", "--programs", "1")
    said = api.refused("webhooks", "create", "bb", "--url", "http://example.com/")
    assert said == "url: The provided URL must be in HTTPS.; events: Select at least one event."


def test_a_client_certificate_comes_from_files(api: Command, tenant: str) -> None:
    """Certificate and key are files; an empty name takes them away; a file that cannot be read is named."""
    held = client_certificate(trustme.CA(), "acme")
    Path("tls.crt").write_text(held.certificate, encoding="utf-8")
    Path("tls.key").write_text(held.private_key, encoding="utf-8")
    Path("tls.der").write_bytes(b"\x30\x82\xff")
    files = ("--client-certificate", "tls.crt", "--client-key", "tls.key")
    made = api("webhooks", "create", tenant, "--url", URL, "--event", "*", *files, "-o", "json").json
    assert "CN=acme" in made["client_certificate"]["subject"]
    update = ("webhooks", "update", tenant, made["id"])
    assert api(*update, "--client-certificate", "", "-o", "json").json["client_certificate"] is None
    assert api(*update, *files, "-o", "json").json["client_certificate"] == made["client_certificate"]
    assert "'none.key': No such file" in api.refused(*update, "--client-key", "none.key")
    assert "'tls.der': this is no PEM" in api.refused(*update, "--client-certificate", "tls.der")
    assert "client_certificate.private_key: This must be" in api.refused(*update, "--client-key", "tls.crt")


def test_a_secret_need_not_stand_on_the_command_line(
    api: Command, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret or password may come in a variable, which other users of the machine cannot see."""
    monkeypatch.setenv("PIPELINE_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = api("webhooks", "create", tenant, "--url", URL, "--event", "*", "-o", "json").json
    assert made["auth"]["secret"] == "whsec_…LaSw"
    api("tenants", "create", "insp", "--profile", "inspectorio")
    basic = ("--name", "n", "--url", URL, "--component", "Report", "--username", "u")
    monkeypatch.setenv("PIPELINE_WEBHOOK_SECRET", "pass word")
    assert api("webhooks", "create", "insp", *basic, "-o", "json").json["auth"]["type"] == "basic"


def test_profiles(api: Command) -> None:
    """Products are listed and shown, for people and for programs."""
    assert "Bug bounty" in api("profiles", "list").out
    assert "Report" in api("profiles", "show", "inspectorio").out
    assert api("profiles", "show", "qase", "-o", "json").json["name"] == "qase"
    assert "no such profile" in api.refused("profiles", "show", "nobody")


def test_one_event_from_options(api: Command, served: tuple[str, Parts], tenant: str) -> None:
    """An event from options is sent with its data to the letter."""
    options = ("--id", "e1", "--actor", "u", "--source", "cli", "--time", "2026-01-31T12:00:00Z")
    said = api("events", "send", tenant, "--type", "a.b", "--data", '{"n":1.50}', *options, "-o", "jsonl")
    assert said.lines == [{"id": "e1", "status": 202}]
    (event,) = events_of(served, tenant)
    assert (event.type, event.data, event.actor, event.source) == ("a.b", '{"n":1.50}', "u", "cli")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (ONE, ["1"]),
        (f"[{ONE}, {ONE.replace('1', '2', 1)}]", ["1", "2"]),
        (f"{ONE}\n\n{ONE.replace('1', '2', 1)}\n", ["1", "2"]),
        ("[]", []),
        ("", []),
    ],
)
def test_events_from_a_file(api: Command, served: tuple[str, Parts], tenant: str, text: str, ids: list[str]) -> None:
    """A file holds one event, a list of them, or one a line; data is kept to the letter."""
    Path("events.json").write_text(text, encoding="utf-8")
    assert api("events", "send", tenant, "--file", "events.json").code == 0
    assert [(event.id, event.data) for event in events_of(served, tenant)] == [(one, "1.0") for one in ids]


def test_events_from_standard_input(
    api: Command, served: tuple[str, Parts], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` is standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(ONE))
    assert api("events", "send", tenant, "-f", "-").code == 0
    assert [event.id for event in events_of(served, tenant)] == ["1"]


def test_many_events_go_in_batches(api: Command, served: tuple[str, Parts], tenant: str) -> None:
    """A file of any length is sent in batches that the API takes."""
    rows = [json.dumps({"id": str(n), "type": "a", "data": "x" * 4000}) for n in range(1_200)]
    Path("many.jsonl").write_text("\n".join(rows), encoding="utf-8")
    said = api("events", "send", tenant, "-f", "many.jsonl", "-o", "jsonl")
    assert (said.code, len(said.lines)) == (0, 1_200)
    assert [event.id for event in events_of(served, tenant)] == [str(n) for n in range(1_200)]


@pytest.mark.parametrize(("types", "code"), [(("a", "b b"), 3), (("b b", "c c"), 2)])
def test_refused_events_are_told(api: Command, tenant: str, types: tuple[str, ...], code: int) -> None:
    """Exit code 3 when some events were refused, 2 when all were; each is listed with its reason."""
    rows = [json.dumps({"type": kind, "data": 1}) for kind in types]
    Path("some.jsonl").write_text("\n".join(rows), encoding="utf-8")
    said = api("events", "send", tenant, "-f", "some.jsonl")
    assert said.code == code
    assert "is no event of Standard Webhooks" in said.out
    assert said.err.count("\n") == 1


def test_a_line_that_is_no_json_is_named(api: Command, tenant: str) -> None:
    """Of a file with a broken line nothing is sent before it is known which one it is."""
    Path("bad.jsonl").write_text('{"type":"a","data":1}\n{"type":\n', encoding="utf-8")
    assert "bad.jsonl, line 2: not JSON" in api.refused("events", "send", tenant, "-f", "bad.jsonl")


@pytest.mark.parametrize("name", ["../profiles", "a b", "?limit=1", "ü", "%2e%2e"])
def test_an_id_cannot_lead_elsewhere(api: Command, name: str) -> None:
    """Whatever is given as an id is looked for as an id."""
    assert api.refused("tenants", "show", name) in {"There is no such tenant.", "There is nothing at this address."}
