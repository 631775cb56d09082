from __future__ import annotations

import base64
import re

import pytest

from pipeline.errors import SettingsError
from pipeline.flow.subscription import Tenant
from pipeline.kafka.topics import TENANTS
from pipeline.settings import Settings
from pipeline.store.secrets import Vault
from tests.api.parts import VAULT_KEY, Parts
from tests.cli.conftest import Command

OLD = Vault((("old", bytes(32)), VAULT_KEY))


@pytest.fixture
def parts(served: tuple[str, Parts]) -> Parts:
    """The API's parts, without tenants of another test."""
    parts = served[1]
    for tenant in tuple(parts.view.records[TENANTS]):
        parts.view.put(TENANTS, tenant, None)
    return parts


def put(parts: Parts, name: str, vault: Vault) -> None:
    tenant = Tenant(name, name, "standard", data_key=vault.new_tenant_key(name))
    parts.view.put(TENANTS, name, parts.codec.encode_tenant(tenant))


def test_a_new_key_is_one_line_that_the_setting_takes(command: Command) -> None:
    """`new-key` prints `id:base64` of 32 bytes, another one each time, under the id that is wanted."""
    made = [command("secrets", "new-key") for _ in range(2)]
    assert all(re.fullmatch(r"k-[0-9a-f]{8}:[A-Za-z0-9+/]{43}=\n", one.out) for one in made)
    assert made[0].out != made[1].out
    named = command("secrets", "new-key", "--id", "2026-11").out.strip()
    ((name, key),) = Settings(encryption_keys=named).keys()
    assert (name, base64.b64encode(key).decode()) == ("2026-11", named.partition(":")[2])
    assert "--id" in command.refused("secrets", "new-key", "--id", "a:b")


def test_two_keys_of_one_name_are_refused() -> None:
    """Which of two keys of the same id is meant could not be told: nothing starts with them."""
    two = ",".join(f"k1:{base64.b64encode(bytes([n]) * 32).decode()}" for n in range(2))
    with pytest.raises(SettingsError, match="two keys are called 'k1'"):
        Settings(encryption_keys=two).keys()


def test_the_status_lists_keys_and_counts(api: Command, parts: Parts) -> None:
    """Each key with what it has sealed; one that this deployment does not have is there, too."""
    put(parts, "a", parts.vault)
    put(parts, "b", OLD)
    assert api("secrets", "status", "-o", "json").json == [
        {"id": "k1", "seals": True, "known": True, "tenants": 1},
        {"id": "old", "seals": False, "known": False, "tenants": 1},
    ]
    assert "old" in api("secrets", "status").out


def test_a_rotation_tells_how_far_it_is(api: Command, parts: Parts) -> None:
    """Progress on stderr with each step; what cannot be re-sealed is named at the end, with exit code 3."""
    for name in ("a", "b", "c"):
        put(parts, name, OLD)
    put(parts, "d", parts.vault)
    counted = api("secrets", "rotate", "--dry-run", "-o", "json")
    assert (counted.code, counted.json["left"], counted.json["resealed"], counted.err) == (0, 3, 0, "")
    said = api("secrets", "rotate", "--step", "2", "-o", "json")
    assert said.code == 3
    assert [one["tenant"] for one in said.json["failed"]] == ["a", "b", "c"]
    assert "a: data_key of a was sealed by key 'old', which is not among the encryption keys" in said.err


def test_a_whole_rotation_ends_well(api: Command, parts: Parts) -> None:
    """When the old key is there everything is re-sealed in steps, and the exit code is 0."""
    for name in ("a", "b", "c"):
        put(parts, name, OLD)
    object.__setattr__(parts.vault, "keys", (VAULT_KEY, ("old", bytes(32))))
    try:
        said, again = api("secrets", "rotate", "--step", "2"), api("secrets", "rotate")
    finally:
        object.__setattr__(parts.vault, "keys", (VAULT_KEY,))
    assert (said.code, said.err.splitlines()) == (0, ["re-sealed 2, 1 left", "re-sealed 3, 0 left"])
    assert (again.code, again.err.partition(":")[0]) == (0, "nothing to re-seal")
    assert api("secrets", "status", "-o", "json").json == [{"id": "k1", "seals": True, "known": True, "tenants": 3}]
