"""A webhook's client certificate in its record: sealed, bound to its place, opened for the sender."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import Undecodable
from pipeline.flow.deliver import ClientCertificate, Delivery, Origin
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.store.secrets import (
    Unreadable,
    Vault,
    open_client_certificate,
    open_headers,
    seal_client_certificate,
    seal_headers,
)
from pipeline.store.targets import ViewTargets
from tests.store.conftest import World

CANARY = "canary-51c2"
CERTIFICATE = ClientCertificate("chain", CANARY)
DELIVERY = Delivery("msg_1", "acme", "wh_1", "e1", "a.b", None, 0, b"{}", 1, Origin("events", 0, 0, 0))


def written(world: World, tenant: Tenant, sealed_for: str = "wh_1") -> Subscription:
    """Webhook `wh_1` with a certificate."""
    sealed = seal_client_certificate(world.vault.tenant_vault(tenant), "acme", sealed_for, CERTIFICATE, 1)
    return world.webhook(tenant, client_certificate=sealed)


def test_a_certificate_comes_back_and_shows_nothing() -> None:
    """The key is not in the box in the open, nor in what is printed; no certificate is no box."""
    vault = Vault((("k", bytes(32)),))
    sealed = seal_client_certificate(vault, "acme", "wh_1", CERTIFICATE, 1)
    assert sealed is not None
    assert CANARY.encode() not in sealed.box
    assert CANARY not in repr(CERTIFICATE)
    assert open_client_certificate(vault, "acme", "wh_1", sealed) == CERTIFICATE
    assert seal_client_certificate(vault, "acme", "wh_1", None, 1) is None
    assert open_client_certificate(vault, "acme", "wh_1", None) is None


def test_a_box_cannot_change_places() -> None:
    """A box of headers is no certificate, a certificate's is none of another webhook, tenant or version."""
    vault = Vault((("k", bytes(32)),))
    sealed = seal_client_certificate(vault, "acme", "wh_1", CERTIFICATE, 1)
    assert sealed is not None
    for tenant, webhook, box in (
        ("eve", "wh_1", sealed),
        ("acme", "wh_2", sealed),
        ("acme", "wh_1", replace(sealed, version=2)),
        ("acme", "wh_1", seal_headers(vault, "acme", "wh_1", {"certificate": "a", "private_key": "b"}, 1)),
    ):
        with pytest.raises(Unreadable):
            open_client_certificate(vault, tenant, webhook, box)
    with pytest.raises(Unreadable):
        open_headers(vault, "acme", "wh_1", sealed)


def test_the_senders_requests_carry_it(world: World) -> None:
    """What was sealed for the webhook goes with each of its requests to the client."""
    written(world, world.tenant())
    target = ViewTargets(world.view, world.codec, world.vault).find("acme", "wh_1")
    assert target is not None
    assert target.prepared.request(DELIVERY, 1).client_certificate == CERTIFICATE


def test_a_certificate_moved_from_another_webhook_is_never_used(world: World) -> None:
    """A record with another webhook's certificate makes dead letters, and requests of nobody."""
    written(world, world.tenant(), sealed_for="wh_2")
    with pytest.raises(Undecodable, match="client_certificate of acme/wh_1 cannot be opened") as caught:
        ViewTargets(world.view, world.codec, world.vault).find("acme", "wh_1")
    assert CANARY not in str(caught.value)


def test_a_certificate_of_an_earlier_tenant_is_gone(world: World) -> None:
    """What an earlier tenant of the same id has sealed is no webhook of the new one, and no fault."""
    sealed = written(world, world.tenant()).client_certificate
    world.webhook(world.tenant(), client_certificate=sealed)
    assert ViewTargets(world.view, world.codec, world.vault).find("acme", "wh_1") is None
