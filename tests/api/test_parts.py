"""The parts in memory behave as the real ones: one suite for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from pipeline.api.deps import Control
from pipeline.flow.audit import Audit
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka.changes import Removed
from pipeline.kafka.codec import Codec
from pipeline.kafka.control import ControlWriter
from pipeline.kafka.table import Table
from pipeline.kafka.topics import CONTROL_TOPICS, ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.store.targets import View
from tests.api.parts import MemoryControl, MemoryView, offline_codec
from tests.prepared import codec_of

BY = Audit("aud_1", 1, "admin", "platform_admin", "createTenant", "parts-a", "parts-a")


class World(NamedTuple):
    view: View
    control: Control
    codec: Codec


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        view, codec = MemoryView(), offline_codec()
        yield World(view, MemoryControl(view, codec), codec)
        return
    settings = request.getfixturevalue("settings")
    async with (
        codec_of(settings) as codec,
        Table(settings, CONTROL_TOPICS, (ENDPOINT_STATE,)) as table,
        ControlWriter(settings, codec, table) as control,
    ):
        yield World(table, control, codec)


def webhook(tenant: str, number: int, **more: Any) -> Subscription:
    return Subscription(tenant, f"wh_{number}", "https://example.com/", ("*",), Auth("none"), **more)


async def test_what_is_written_is_seen(world: World) -> None:
    """A write is whole in the view when it returns, and the newest one counts."""
    tenant = Tenant("parts-a", "A", "standard", "free", 3, {"x": 1}, None, 5, 6)
    async with world.control.hold("parts-a"):
        await world.control.write(BY, tenant, webhook("parts-a", 1))
    assert world.codec.decode_tenant(world.view.get(TENANTS, "parts-a")) == tenant
    await world.control.write(BY, webhook("parts-a", 1, name="new"))
    assert world.codec.decode_subscription(world.view.get(SUBSCRIPTIONS, "parts-a/wh_1")).name == "new"


async def test_what_is_removed_is_gone(world: World) -> None:
    """A removal takes the record out of the view and out of its tenant's keys."""
    await world.control.write(BY, webhook("parts-b", 1), webhook("parts-b", 2))
    await world.control.write(BY, Removed("parts-b", "wh_1"))
    assert world.view.get(SUBSCRIPTIONS, "parts-b/wh_1") is None
    assert list(world.view.keys(SUBSCRIPTIONS, "parts-b")) == ["parts-b/wh_2"]


async def test_keys_are_those_of_the_whole_tenant_id(world: World) -> None:
    """A tenant whose id begins with another's is another tenant."""
    await world.control.write(BY, webhook("parts-c", 1), webhook("parts-cc", 1))
    assert list(world.view.keys(SUBSCRIPTIONS, "parts-c")) == ["parts-c/wh_1"]
    assert {"parts-c/wh_1", "parts-cc/wh_1"} <= set(world.view.keys(SUBSCRIPTIONS))


async def test_watchers_hear_of_every_change(world: World) -> None:
    """Whoever watches is told topic and key after the view has changed, removals too."""
    heard: list[tuple[str, str, bool]] = []
    world.view.watch(lambda topic, key: heard.append((topic, key, world.view.get(topic, key) is not None)))
    await world.control.write(BY, webhook("parts-d", 1))
    await world.control.write(BY, Removed("parts-d", "wh_1"))
    assert [one for one in heard if one[1].startswith("parts-d")] == [
        (SUBSCRIPTIONS, "parts-d/wh_1", True),
        (SUBSCRIPTIONS, "parts-d/wh_1", False),
    ]


async def test_the_ends_are_reached(world: World) -> None:
    """A view that has been told where its topics end catches up with them."""
    await world.control.write(BY, webhook("parts-e", 1))
    ends = await world.view.ends()
    await world.view.caught_up(ends)
    await world.view.reached(SUBSCRIPTIONS, 1)
    assert ends[SUBSCRIPTIONS, 0] > 0
    assert world.view.offset(SUBSCRIPTIONS) >= ends[SUBSCRIPTIONS, 0]
