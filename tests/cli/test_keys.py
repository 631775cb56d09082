"""`pipeline keys`, against a running API."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command


@pytest.fixture
def tenant(api: Command) -> str:
    api("tenants", "create", "acme", "--profile", "standard")
    return "acme"


def test_keys(api: Command, tenant: str) -> None:
    """A key is made, works, is listed and shown without its secret, and is revoked; asides are on stderr."""
    said = api("keys", "create", "--role", "viewer", "--tenant", tenant, "--name", "CI", "-o", "json")
    made = said.json
    assert (made["role"], made["tenant"], made["name"]) == ("viewer", tenant, "CI")
    assert "not shown again" in said.err
    mine = ("--api-key", made["key"])
    assert api("tenants", "show", tenant, *mine, "-o", "json").json["id"] == tenant
    assert "needs the role owner" in api.refused("keys", "list", *mine)
    assert api("keys", "show", made["id"], "-o", "json").json["prefix"] == made["prefix"]
    assert made["key"] not in api("keys", "show", made["id"]).out
    assert [one["id"] for one in api("keys", "list", "--tenant", tenant, "-o", "jsonl").lines] == [made["id"]]
    revoked = api("keys", "revoke", made["id"])
    assert (revoked.code, revoked.out, revoked.err) == (0, "", f"key {made['id']} is revoked\n")
    assert "valid key" in api.refused("tenants", "show", tenant, *mine)
    assert api("keys", "list", "-o", "json").json[0]["revoked_at"]


def test_an_owner_need_not_name_its_tenant(api: Command, tenant: str) -> None:
    """With an owner's key, keys are its own tenant's; what is above it, or another's, is refused."""
    owner = api("keys", "create", "--role", "owner", "--tenant", tenant, "-o", "json").json["key"]
    assert api("keys", "create", "--role", "ingest", "--api-key", owner, "-o", "json").json["tenant"] == tenant
    assert "above owner" in api.refused("keys", "create", "--role", "platform_admin", "--api-key", owner)
    assert "no such tenant" in api.refused("keys", "list", "--tenant", "other", "--api-key", owner)


def test_what_cannot_be_is_one_line(api: Command, tenant: str) -> None:
    """A role that there is not, and a key without a tenant, are refused with the field."""
    assert api.refused("keys", "create", "--role", "boss", "--tenant", tenant).startswith("role: ")
    assert "tenant: Name the tenant" in api.refused("keys", "create", "--role", "viewer")
    assert "no such key" in api.refused("keys", "show", "nothing")


def test_a_limit_of_events(api: Command, tenant: str) -> None:
    """A tenant's limit is set and taken away."""
    update = ("tenants", "update", tenant, "--events-per-second")
    assert api(*update, "5", "-o", "json").json["limits"] == {"events_per_second": 5}
    assert api(*update, "0", "-o", "json").json["limits"] == {"events_per_second": None}
