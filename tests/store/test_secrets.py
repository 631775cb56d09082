from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import SettingsError
from pipeline.flow.subscription import Tenant
from pipeline.store.secrets import (
    Secrets,
    Unreadable,
    Vault,
    open_auth,
    open_headers,
    seal_auth,
    seal_headers,
)

OLD, NEW = ("old", bytes(32)), ("new", bytes(range(32)))
PLACE = {"tenant": "acme", "webhook": "wh_1", "field": "auth"}
CANARY = "canary-7f3a"


@pytest.fixture
def vault() -> Vault:
    return Vault((NEW, OLD))


def test_a_secret_comes_back_as_it_was(vault: Vault) -> None:
    """What is sealed for a place is opened at that place."""
    assert vault.open(vault.seal(b"secret", **PLACE, version=3), **PLACE) == b"secret"


@pytest.mark.parametrize("moved", [{"tenant": "other"}, {"webhook": "wh_2"}, {"field": "headers"}])
def test_a_box_cannot_be_moved(vault: Vault, moved: dict[str, str]) -> None:
    """A box that is put at another tenant, webhook or field does not open."""
    sealed = vault.seal(b"secret", **PLACE, version=1)
    with pytest.raises(Unreadable):
        vault.open(sealed, **{**PLACE, **moved})


def test_a_box_cannot_be_given_another_version(vault: Vault) -> None:
    """An old box that is passed off as a newer version does not open."""
    with pytest.raises(Unreadable):
        vault.open(replace(vault.seal(b"secret", **PLACE, version=1), version=2), **PLACE)


@pytest.mark.parametrize("byte", [0, 12, -1])
def test_an_altered_box_does_not_open(vault: Vault, byte: int) -> None:
    """A flipped bit anywhere, in nonce, ciphertext or tag, is noticed."""
    sealed = vault.seal(b"secret", **PLACE, version=1)
    box = bytearray(sealed.box)
    box[byte] ^= 1
    with pytest.raises(Unreadable):
        vault.open(replace(sealed, box=bytes(box)), **PLACE)


@pytest.mark.parametrize("box", [b"", b"short", bytes(12)])
def test_a_truncated_box_does_not_open(vault: Vault, box: bytes) -> None:
    """A box too short to be one is refused like any other."""
    with pytest.raises(Unreadable):
        vault.open(replace(vault.seal(b"secret", **PLACE, version=1), box=box), **PLACE)


def test_two_boxes_of_one_secret_differ(vault: Vault) -> None:
    """Equal secrets do not show as equal boxes."""
    assert vault.seal(b"secret", **PLACE, version=1) != vault.seal(b"secret", **PLACE, version=1)


def test_the_first_key_seals_and_all_open(vault: Vault) -> None:
    """While keys are rotated, what the older one sealed still opens, and new boxes are the newer one's."""
    older = Vault((OLD,)).seal(b"secret", **PLACE, version=1)
    assert vault.open(older, **PLACE) == b"secret"
    assert vault.seal(b"secret", **PLACE, version=2).key == "new"


def test_a_missing_key_is_named() -> None:
    """The error says which key is missing and where, and nothing of the secret."""
    sealed = Vault((OLD,)).seal(CANARY.encode(), **PLACE, version=1)
    with pytest.raises(Unreadable, match=r"auth of acme/wh_1 was sealed by key 'old'") as caught:
        Vault((NEW,)).open(sealed, **PLACE)
    assert CANARY not in str(caught.value)


def test_another_key_of_the_same_name_is_told() -> None:
    """A key that carries the right id but is another one does not open, and the error says so without the secret."""
    sealed = Vault((("k", bytes(32)),)).seal(CANARY.encode(), **PLACE, version=1)
    with pytest.raises(Unreadable, match="is another one") as caught:
        Vault((("k", bytes(range(32))),)).open(sealed, **PLACE)
    assert CANARY not in str(caught.value)


def test_without_keys_there_is_no_vault() -> None:
    """No encryption key means no start."""
    with pytest.raises(SettingsError, match="PIPELINE_ENCRYPTION_KEYS"):
        Vault(())


def test_keys_and_secrets_are_not_shown() -> None:
    """Neither a vault nor open secrets tell what they hold when they are printed."""
    assert "x00" not in repr(Vault((OLD,)))
    assert CANARY not in repr(Secrets({"secret": CANARY}))


def test_a_tenants_key_seals_its_webhooks(vault: Vault) -> None:
    """A webhook's secrets open through the tenant's record, and not without it."""
    tenant = Tenant("acme", "Acme", "standard", data_key=vault.new_tenant_key("acme"))
    sealed = seal_auth(vault.tenant_vault(tenant), "acme", "wh_1", Secrets({"secret": "s"}), 1)
    assert open_auth(vault.tenant_vault(tenant), "acme", "wh_1", sealed) == Secrets({"secret": "s"})
    with pytest.raises(Unreadable, match="no key of its own"):
        vault.tenant_vault(replace(tenant, data_key=None))
    with pytest.raises(Unreadable):
        vault.open(sealed, **PLACE)


def test_a_tenant_of_the_same_id_made_anew_reads_nothing_of_the_old_one(vault: Vault) -> None:
    """Removing a tenant shreds its secrets: a later tenant of that id has another key, and the box says so."""
    first, second = (Tenant("acme", "Acme", "standard", data_key=vault.new_tenant_key("acme")) for _ in range(2))
    sealed = seal_auth(vault.tenant_vault(first), "acme", "wh_1", Secrets({"secret": "s"}), 1)
    assert vault.tenant_vault(first).knows(sealed)
    assert not vault.tenant_vault(second).knows(sealed)
    with pytest.raises(Unreadable):
        open_auth(vault.tenant_vault(second), "acme", "wh_1", sealed)


def test_a_tenants_key_cannot_be_moved_to_another_tenant(vault: Vault) -> None:
    """A tenant's record with another tenant's key in it cannot be used."""
    with pytest.raises(Unreadable):
        vault.tenant_vault(Tenant("eve", "Eve", "standard", data_key=vault.new_tenant_key("acme")))


def test_old_secrets_sign_along_until_their_time() -> None:
    """A rotated secret is in force with the new one until its time, and not at it."""
    secrets = Secrets.of_json(Secrets({"secret": "new"}, (("old", 1_000), ("older", 500))).to_json())
    assert secrets.at(499).in_force() == {"secret": "new", "previous": "old older"}
    assert secrets.at(500).in_force() == {"secret": "new", "previous": "old"}
    assert secrets.at(1_000).in_force() == {"secret": "new"}


def test_headers_are_sealed_too(vault: Vault) -> None:
    """A customer's own headers, which may hold a token, are sealed; no headers are no box."""
    sealed = seal_headers(vault, "acme", "wh_1", {"X-Token": CANARY}, 1)
    assert sealed is not None
    assert CANARY.encode() not in sealed.box
    assert open_headers(vault, "acme", "wh_1", sealed) == {"X-Token": CANARY}
    assert seal_headers(vault, "acme", "wh_1", {}, 1) is None
    assert open_headers(vault, "acme", "wh_1", None) == {}
