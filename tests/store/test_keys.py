from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.access import ApiKey, Role
from pipeline.kafka.topics import KEYS
from pipeline.store.keys import KeyRing
from tests.api.parts import MemoryView, offline_codec

CODEC = offline_codec()


def key(number: int, tenant: str | None = "acme") -> ApiKey:
    return ApiKey(f"k{number}", "whk", bytes([number]) * 32, Role.OWNER, tenant, None, number)


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


def put(view: MemoryView, *keys: ApiKey) -> None:
    for one in keys:
        view.put(KEYS, one.id, CODEC.encode_api_key(one))


def ids(ring: KeyRing, tenant: str | None = None) -> list[str]:
    return [one.id for one in ring.keys(tenant, None, 10).items]


@pytest.mark.parametrize("asked_first", [False, True])
def test_what_comes_and_goes_is_seen(view: MemoryView, *, asked_first: bool) -> None:
    """Keys written before and after the first question are found, revoked ones as revoked, removed ones not at all."""
    ring = KeyRing(view, CODEC)
    put(view, key(1), key(2), key(3, "other"))
    assert not asked_first or ring.key("k1") == key(1)
    revoked = replace(key(1), revoked_ms=9)
    put(view, revoked, key(4, None))
    view.put(KEYS, "k2", None)
    assert (ring.key("k1"), ring.key("k2"), ring.key("k4")) == (revoked, None, key(4, None))
    assert ids(ring) == ["k4", "k3", "k1"]
    assert (ids(ring, "acme"), ids(ring, "other"), ids(ring, "nobody")) == (["k1"], ["k3"], [])
    assert ring.of("acme") == [revoked]


def test_a_tenant_without_keys_leaves_nothing_behind(view: MemoryView) -> None:
    """When its last key goes, a tenant is as one that never had any; when one comes again, it is listed."""
    ring = KeyRing(view, CODEC)
    put(view, key(1))
    assert ids(ring, "acme") == ["k1"]
    view.put(KEYS, "k1", None)
    assert (ids(ring, "acme"), ring.of("acme"), set(ring._keys._orders)) == ([], [], {None})
    put(view, key(5))
    assert ids(ring, "acme") == ["k5"]


def test_lists_go_on_after_a_place(view: MemoryView) -> None:
    """A page ends with the place after which the next one begins; a key that comes meanwhile moves nobody."""
    ring = KeyRing(view, CODEC)
    put(view, *(key(number) for number in range(1, 6)))
    first = ring.keys("acme", None, 2)
    put(view, key(9))
    second = ring.keys("acme", first.next, 2)
    assert [one.id for one in (*first.items, *second.items)] == ["k5", "k4", "k3", "k2"]
    assert [one.id for one in ring.keys("acme", second.next, 2).items] == ["k1"]


def test_one_that_cannot_be_read_takes_no_other_with_it(view: MemoryView) -> None:
    """What cannot be read is no key; one that becomes unreadable is none any more."""
    ring = KeyRing(view, CODEC)
    view.put(KEYS, "junk", b"junk")
    put(view, key(1), key(2))
    assert (ring.key("junk"), ids(ring)) == (None, ["k2", "k1"])
    view.put(KEYS, "k1", b"junk")
    assert (ring.key("k1"), ids(ring, "acme")) == (None, ["k2"])
