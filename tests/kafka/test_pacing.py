"""What the views say of a webhook that replays go to."""

from __future__ import annotations

import time

import pytest

from pipeline.flow.health import EndpointState
from pipeline.flow.pace import PART
from pipeline.flow.subscription import Tenant
from pipeline.kafka import pacing
from pipeline.kafka.pacing import Paces
from pipeline.kafka.topics import ENDPOINT_STATE, TENANTS
from tests.kafka.replaying import World
from tests.workers.parts import CODEC

pytestmark = pytest.mark.replay
PATH = "acme/wh_1"


def paces(world: World) -> Paces:
    return world.parts.paces


async def test_a_state_of_an_older_generation_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has mended an endpoint and activated its webhook does not wait for what was shown before."""
    monkeypatch.setattr(pacing, "_LOOK_S", 0.0)
    world = World([])
    world.shown("wh_1", int(time.time() * 1000) + 60_000)
    assert paces(world).stopped(PATH)
    world.subscribe("wh_1", generation=2)
    assert not paces(world).stopped(PATH)
    world.shown("wh_1", int(time.time() * 1000) + 90_000)
    assert not paces(world).stopped(PATH), "still of the older one"


async def test_the_webhooks_own_rate_is_the_most() -> None:
    """Turns at a webhook that allows ten a second are an eighth of a second apart."""
    world = World([])
    world.subscribe("wh_1", rate=10.0)
    turns = [paces(world).take(PATH) for _ in range(3)]
    assert turns[2] - turns[1] == pytest.approx(1 / (10 * PART))


async def test_who_cannot_be_sent_to_is_told_with_what_mends_it() -> None:
    """Inactive or disabled: the command that activates it; suspended: why; one that is gone is waited for by nobody."""
    world = World([])
    assert paces(world).unusable(PATH) is None
    assert paces(world).unusable("acme/gone") is None
    world.subscribe("wh_1", active=False)
    assert "is inactive: run `pipeline webhooks activate acme wh_1`" in (paces(world).unusable(PATH) or "")
    world.subscribe("wh_1")
    world.view.put(TENANTS, "acme", CODEC.encode_tenant(Tenant("acme", "Acme", "qase", plan="free")))
    assert "is suspended: " in (paces(world).unusable(PATH) or "")
    world.view.put(TENANTS, "acme", CODEC.encode_tenant(Tenant("acme", "Acme", "standard")))
    state = EndpointState("acme", "wh_1", 1, disabled=True, reason="gone")
    world.view.put(ENDPOINT_STATE, PATH, CODEC.encode_endpoint_state(state))
    assert "is disabled by its failures" in (paces(world).unusable(PATH) or "")


async def test_a_replays_own_endpoint_cannot_be_activated() -> None:
    """Disabled by its failures it stays so: who waits is told what is left to do."""
    world = World([])
    world.subscribe("wh_1", replay="rpl_1")
    state = EndpointState("acme", "wh_1", 1, disabled=True, reason="gone")
    world.view.put(ENDPOINT_STATE, PATH, CODEC.encode_endpoint_state(state))
    said = paces(world).unusable(PATH) or ""
    assert "cancel the replay, and order another one" in said
    assert "activate" not in said
