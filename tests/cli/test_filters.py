from __future__ import annotations

import itertools

import pytest

from tests.cli.conftest import Command

_numbers = itertools.count()
URL = "https://example.com/hook"
EVENT = ("--type", "invoice.paid", "--data", '{"amount": 149.9}')


@pytest.fixture
def tenant(api: Command) -> str:
    """A tenant of the test's own."""
    name = f"filtered-{next(_numbers)}"
    assert api("tenants", "create", name, "--profile", "standard").code == 0
    return name


def test_a_webhook_has_a_filter_and_a_projection(api: Command, tenant: str) -> None:
    """They are options of create and update; an empty one takes it away; a fault is named with its place."""
    options = ("--url", URL, "--event", "*", "--filter", "data.a", "--projection", "data.b", "-o", "json")
    made = api("webhooks", "create", tenant, *options).json
    assert (made["filter"], made["projection"]) == ("data.a", "data.b")
    update = ("webhooks", "update", tenant, made["id"])
    changed = api(*update, "--filter", "", "--projection", "type", "-o", "json").json
    assert (changed["filter"], changed["projection"]) == (None, "type")
    assert "at character 3" in api.refused(*update, "--filter", "a =")


def test_they_can_be_tried(api: Command, tenant: str) -> None:
    """On an event from options, those that are given or a webhook's."""
    test = ("filters", "test", tenant, *EVENT, "-o", "json")
    tried = api(*test, "--filter", "data.amount > `100`", "--projection", "data.amount").json
    assert (tried["matches"], tried["projected"]) == (True, 149.9)
    made = api("webhooks", "create", tenant, "--url", URL, "--event", "*", "--filter", "`false`", "-o", "json").json
    assert api(*test, "--webhook", made["id"]).json["matches"] is False
    assert api(*test, "--webhook", made["id"], "--filter", "").json["matches"] is True
    assert "nothing to try" in api.refused(*test)
    assert "filter: This JMESPath" in api.refused(*test, "--filter", "a =")


def test_what_is_only_warned_of_is_said(api: Command) -> None:
    """With `--validation warn` events are sent, and what is not as the catalogue says is on stderr."""
    api("tenants", "create", "warned", "--profile", "qase", "--validation", "warn")
    send = ("events", "send", "warned", "--type", "case.updated", "--actor", "40", "--id", "e1", "--data")
    said = api(*send, '{"id": "7"}')
    assert said.code == 0
    assert "warning: event e1: /events/0/data/id: This must be an integer" in said.err
    assert api("tenants", "update", "warned", "--validation", "enforce", "-o", "json").json["validation"] == "enforce"
    assert api(*send, '{"id": "7"}').code == 2
    assert "validation: This must" in api.refused("tenants", "update", "warned", "--validation", "perhaps")
