"""The tenant whose events tell what the pipeline itself has noticed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pipeline.api.serve import _prepare
from pipeline.errors import Fenced, Unreachable
from pipeline.flow.health import OPERATIONS, Change
from pipeline.kafka.topics import TENANTS
from tests.api.conftest import URL, Api
from tests.api.parts import MemoryControl, Parts


class Writer(MemoryControl):
    """A writer whose place a newer process may have taken."""

    ended: asyncio.Future[BaseException]


def writer(parts: Parts) -> Any:
    made = Writer(parts.view, parts.codec)
    made.ended = asyncio.get_running_loop().create_future()
    return made


async def prepare(parts: Parts) -> None:
    await _prepare(parts.deps, writer(parts))


async def test_it_is_there_once_the_api_has_started(api: Api, parts: Parts) -> None:
    """The first start makes it, of product standard; a later one leaves it as it is."""
    await prepare(parts)
    made = await api.get(f"/v1/tenants/{OPERATIONS}")
    assert (made["name"], made["profile"]) == ("Operations", "standard")
    await api.patch(f"/v1/tenants/{OPERATIONS}", {"name": "Night shift"})
    record = parts.view.get(TENANTS, OPERATIONS)
    await prepare(parts)
    assert parts.view.get(TENANTS, OPERATIONS) is record


async def test_its_events_are_subscribed_to_like_any_other(api: Api, parts: Parts) -> None:
    """A webhook of it is made as any tenant's, for its types one by one, by prefix, or all."""
    await prepare(parts)
    for events in (["*"], ["endpoint.*"], [change.value for change in Change]):
        made = await api.post(f"/v1/tenants/{OPERATIONS}/webhooks", {"url": URL, "events": events})
        assert (made["status"], made["auth"]["type"]) == ("active", "standard_webhooks")


async def test_it_cannot_be_removed(api: Api, parts: Parts) -> None:
    """It stays with its webhooks: the refusal says what it is for."""
    await prepare(parts)
    await api.post(f"/v1/tenants/{OPERATIONS}/webhooks", {"url": URL, "events": ["*"]})
    refused = await api.ask("DELETE", f"/v1/tenants/{OPERATIONS}", None, 409)
    assert "_operations stays" in refused["detail"]
    assert len((await api.get(f"/v1/tenants/{OPERATIONS}/webhooks"))["items"]) == 1


async def test_nobody_else_can_make_it(api: Api, parts: Parts) -> None:
    """Its id is taken like any other tenant's."""
    await prepare(parts)
    await api.post("/v1/tenants", {"id": OPERATIONS, "name": "Mine", "profile": "qase"}, 409)


async def test_a_record_that_cannot_be_read_keeps_no_api_from_starting(parts: Parts) -> None:
    """Every other tenant can be configured all the same."""
    parts.view.put(TENANTS, OPERATIONS, b"junk")
    await prepare(parts)
    assert parts.view.get(TENANTS, OPERATIONS) == b"junk"


@pytest.mark.parametrize("fenced", [False, True])
async def test_it_cannot_be_made_now(parts: Parts, *, fenced: bool) -> None:
    """While Kafka takes no change the start is tried again; a process whose place is taken ends."""
    control = writer(parts)
    if fenced:
        control.ended.set_result(Fenced("a newer one"))
    cast("MemoryControl", parts.deps.control).down = True
    with pytest.raises(Fenced if fenced else Unreachable):
        await _prepare(parts.deps, control)
