from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.kafka.topics import TENANTS
from pipeline.store.sealing import Sealing, resealed
from pipeline.store.secrets import Unreadable, Vault, open_auth
from tests.api.parts import VAULT_KEY
from tests.store.conftest import SECRET, World

NEW = ("k2", bytes(range(32, 64)))
BOTH, NEW_ALONE = Vault((NEW, VAULT_KEY)), Vault((NEW,))


def sealing(world: World, vault: Vault = BOTH) -> Sealing:
    return Sealing(world.view, world.codec, vault)


def test_each_key_is_told_with_what_it_has_sealed(world: World) -> None:
    """Every key of the process has its count, also one that has sealed nothing; those before it and those after."""
    world.tenant("a")
    seen = sealing(world)
    world.tenant("b")
    assert dict(seen.counts()) == {"k2": 0, "k1": 2}
    world.tenant("c", data_key=BOTH.new_tenant_key("c"))
    assert dict(seen.counts()) == {"k2": 1, "k1": 2}


def test_what_is_left_follows_the_records(world: World) -> None:
    """A tenant is left while another key than the first has sealed its key: not once re-sealed, not when removed."""
    first, _, _ = (world.tenant(name) for name in ("a", "b", "c"))
    seen = sealing(world)
    assert seen.left() == ["a", "b", "c"]
    done = resealed(BOTH, first)
    assert done is not None
    world.view.put(TENANTS, "a", world.codec.encode_tenant(done))
    world.view.put(TENANTS, "c", None)
    assert seen.left() == ["b"]
    assert dict(seen.counts()) == {"k2": 1, "k1": 1}


def test_what_is_left_is_given_in_steps(world: World) -> None:
    """Steps go on after the last id, in the order of the ids, and none is met twice."""
    for name in ("c", "a", "b"):
        world.tenant(name)
    seen = sealing(world)
    assert (seen.left(limit=2), seen.left("b", 2), seen.left("c", 2)) == (["a", "b"], ["c"], [])


def test_a_key_that_is_not_here_is_warned_of(world: World) -> None:
    """The warning names the key's id and how many records need it; it ends when they do not any more."""
    tenant = world.tenant("a")
    world.tenant("b")
    seen, at_ease = sealing(world, NEW_ALONE), sealing(world)
    assert at_ease.warning is None
    assert seen.warning == (
        "tenants' keys are sealed by keys that are not among the encryption keys: 'k1' has sealed 2"
    )
    world.view.put(TENANTS, "b", None)
    assert seen.warning is not None
    assert seen.warning.endswith("'k1' has sealed 1")
    world.view.put(TENANTS, "a", world.codec.encode_tenant(replace(tenant, data_key=NEW_ALONE.new_tenant_key("a"))))
    assert seen.warning is None


def test_a_record_that_cannot_be_read_is_counted_apart(world: World) -> None:
    """Of an unreadable record nothing is guessed; it is looked at again, as its schema may be learned meanwhile."""
    world.tenant("a")
    world.view.put(TENANTS, "b", b"\x00\x00\x00\x00\x63later")
    seen = sealing(world)
    assert (seen.unreadable(), dict(seen.counts())) == (1, {"k2": 0, "k1": 1})
    world.tenant("b")
    assert (seen.unreadable(), dict(seen.counts())) == (0, {"k2": 0, "k1": 2})


def test_what_is_re_sealed_holds_the_same_secrets(world: World) -> None:
    """The tenant's own key stays what it was: the webhooks' boxes open as before, and the old key is not needed."""
    tenant = world.tenant()
    webhook = world.webhook(tenant)
    done = resealed(BOTH, tenant)
    assert done is not None
    assert done.data_key is not None
    assert (done.data_key.key, done.data_key.version) == ("k2", 2)
    assert replace(done, data_key=tenant.data_key) == tenant
    opened = open_auth(NEW_ALONE.tenant_vault(done), tenant.id, webhook.webhook, webhook.auth.sealed)
    assert opened.values == {"secret": SECRET}
    assert resealed(BOTH, done) is None


def test_what_cannot_be_opened_is_not_re_sealed(world: World) -> None:
    """Where another key carries the id, the tenant is told of, and its record is not touched."""
    with pytest.raises(Unreadable, match="data_key of acme cannot be opened"):
        resealed(Vault((NEW, ("k1", bytes(32)))), world.tenant())
