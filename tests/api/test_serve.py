"""The API's process over a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from pipeline.api.serve import serve
from pipeline.errors import Fenced, SettingsError
from pipeline.flow.health import OPERATIONS, EndpointState
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.table import Table
from pipeline.kafka.tail import tail
from pipeline.kafka.topics import ENDPOINT_STATE, EVENTS, SUBSCRIPTIONS, TENANTS
from pipeline.ports import Outgoing, Record
from pipeline.settings import Settings
from pipeline.store.secrets import Vault
from pipeline.store.targets import ViewTargets
from tests.api.conftest import URL
from tests.kafka.live import eventually
from tests.prepared import ADMIN_KEY, codec_of

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Task[None]]]:
    """A client of the API, and its process; told to stop at the end."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(settings, stop, ready.set_result))
    done, _ = await asyncio.wait({task, ready}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    if ready not in done:
        task.result()
    try:
        async with httpx.AsyncClient(base_url=ready.result().url, headers=HEADERS) as client:
            yield client, task
    finally:
        stop.set()
        await asyncio.wait({task})


async def test_what_the_api_writes_the_sender_can_use(settings: Settings) -> None:
    """A webhook made over REST is found by a sender's own view, and is gone when its tenant is removed."""
    async with serving(settings) as (client, task):
        assert (await client.get("/readyz")).status_code == 200
        tenant = {"id": "live", "name": "Live", "profile": "standard"}
        assert (await client.post("/v1/tenants", json=tenant)).status_code == 201
        made = (await client.post("/v1/tenants/live/webhooks", json={"url": URL, "events": ["*"]})).json()
        async with Table(settings, (SUBSCRIPTIONS, TENANTS), (ENDPOINT_STATE,)) as table, codec_of(settings) as codec:
            targets = ViewTargets(table, codec, Vault(settings.keys()))
            assert targets.find("live", made["id"]) is not None
            assert (await client.delete("/v1/tenants/live")).status_code == 200
            await table.caught_up(await table.ends())
            assert targets.find("live", made["id"]) is None
    task.result()


async def test_what_senders_write_of_an_endpoint_is_heeded(settings: Settings) -> None:
    """A disabled webhook is shown as such and neither routed nor sent to, until its activation leaves that behind."""
    async with (
        serving(settings) as (client, _),
        codec_of(settings) as codec,
        Table(settings, (SUBSCRIPTIONS, TENANTS), (ENDPOINT_STATE,)) as table,
        _publisher(settings) as publisher,
    ):
        tenant = {"id": "fares", "name": "Fares", "profile": "standard"}
        assert (await client.post("/v1/tenants", json=tenant)).status_code == 201
        webhook = (await client.post("/v1/tenants/fares/webhooks", json={"url": URL, "events": ["*"]})).json()["id"]
        await table.caught_up(await table.ends())
        path, place = f"fares/{webhook}", f"/v1/tenants/fares/webhooks/{webhook}"
        subscribers, targets = ViewSubscribers(table, codec), ViewTargets(table, codec, Vault(settings.keys()))

        def wanted() -> bool:
            found = subscribers.of("fares")
            return found is not None and found.wanting("a.b") == (webhook,)

        async def told(state: EndpointState) -> None:
            value = codec.encode_endpoint_state(state)
            await publisher.publish(Outgoing(ENDPOINT_STATE, path.encode(), value))
            await eventually(lambda: targets.states.of(path) == state)

        assert wanted()
        disabled = EndpointState("fares", webhook, 1, disabled=True, reason="gone", failures=1, time_ms=1)
        await told(disabled)
        assert (wanted(), targets.find("fares", webhook)) == (False, None)
        async with asyncio.timeout(20):  # the API's own view follows the states: it is as new a moment later
            while (shown := (await client.get(place)).json())["status"] != "disabled":  # noqa: ASYNC110 - it only asks
                await asyncio.sleep(0.01)
        assert shown["state"]["reason"] == "gone"
        activated = (await client.post(f"{place}/activate")).json()
        assert (activated["status"], activated["state"]["failures"]) == ("active", 0)
        await table.caught_up(await table.ends())
        assert wanted()
        await told(replace(disabled, failures=2))
        assert wanted()
        assert targets.find("fares", webhook) is not None


async def test_the_pipeline_s_own_tenant_is_there(settings: Settings) -> None:
    """From its first start on the API has tenant `_operations`, and the next start leaves it as it is."""
    made = []
    for _ in range(2):
        async with serving(settings) as (client, _):
            made.append((await client.get(f"/v1/tenants/{OPERATIONS}")).json())
            assert (await client.delete(f"/v1/tenants/{OPERATIONS}")).status_code == 409
    assert made[0] == made[1]
    assert made[0]["profile"] == "standard"


@asynccontextmanager
async def _publisher(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings)
    try:
        yield publisher
    finally:
        await publisher.close()


async def test_an_accepted_event_is_on_kafka(settings: Settings) -> None:
    """After 202 the record is in `events`: keyed by tenant, its type in a header, the data to the letter."""
    async with serving(settings) as (client, _):
        await client.post("/v1/tenants", json={"id": "sent", "name": "Sent", "profile": "standard"})
        body = b'{"id":"e1","type":"a.b","data":{"n":1.50}}'
        assert (await client.post("/v1/tenants/sent/events", content=body)).status_code == 202
    async with codec_of(settings) as codec, aclosing(tail(settings, EVENTS, "earliest")) as batches:
        found = [record async for batch in _until_some(batches, b"sent") for record in batch]
        event = codec.event(found[0])
    assert dict(found[0].headers) == {"tenant": b"sent", "type": b"a.b"}
    assert (event.id, event.type, event.data) == ("e1", "a.b", '{"n":1.50}')


async def _until_some(batches: AsyncIterator[list[Record]], key: bytes) -> AsyncIterator[list[Record]]:
    """The first batch that holds records of the key, without the others."""
    async for batch in batches:
        if found := [record for record in batch if record.key == key]:
            yield found
            return


@pytest.mark.authz
async def test_a_key_is_revoked_everywhere(settings: Settings) -> None:
    """What one API process makes opens another, and within a second of its revocation it opens none."""
    async with serving(settings) as (older, _), serving(settings) as (newer, _):
        tenant = {"id": "keyed", "name": "Keyed", "profile": "standard"}
        assert (await newer.post("/v1/tenants", json=tenant)).status_code == 201
        made = (await newer.post("/v1/keys", json={"role": "viewer", "tenant": "keyed"})).json()

        async def until(status: int, within_s: float) -> None:
            async with asyncio.timeout(within_s):
                while await asked(older) != status:  # noqa: ASYNC110 - it only asks
                    await asyncio.sleep(0.01)

        async def asked(client: httpx.AsyncClient) -> int:
            headers = {"Authorization": f"Bearer {made['key']}"}
            return (await client.get("/v1/tenants/keyed", headers=headers)).status_code

        await until(200, 20)
        assert (await newer.delete(f"/v1/keys/{made['id']}")).status_code == 204
        assert await asked(newer) == 401
        await until(401, 1)


async def test_a_second_api_takes_over_and_the_first_one_ends(settings: Settings) -> None:
    """A newer API process fences the older one, which answers 503 to a write and then ends as fenced."""
    async with serving(settings) as (older, task), serving(settings) as (newer, _):
        body = {"id": "fenced", "name": "Fenced", "profile": "standard"}
        assert (await older.post("/v1/tenants", json=body)).status_code == 503
        with pytest.raises(Fenced):
            await asyncio.wait_for(asyncio.shield(task), 30)
        assert (await newer.post("/v1/tenants", json=body)).status_code == 201


@pytest.mark.parametrize("missing", ["admin_key", "encryption_keys"])
async def test_without_keys_nothing_starts(missing: str) -> None:
    """A deployment that has no platform key, or none to seal secrets with, does not start, and says which."""
    given: dict[str, Any] = {"admin_key": "k", "encryption_keys": "k:x", missing: ""}
    with pytest.raises(SettingsError, match=missing.upper()):
        await serve(Settings(**given), asyncio.Event(), print)


async def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    """A port that somebody else listens on is refused in one sentence."""
    async with serving(settings) as (client, _):
        port = client.base_url.port or 0
        with pytest.raises(SettingsError, match=str(port)):
            await serve(settings, asyncio.Event(), print, port=port)
