"""A tenant is removed: what goes at once, what is said of the rest, and that nothing comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx
import pytest

from pipeline.api.app import create_app
from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.audit import TENANT_REMOVED, Audit
from pipeline.flow.cancels import Cancel
from pipeline.flow.deadletter import Reason
from pipeline.flow.event import Event
from pipeline.flow.history import DeadSeen, EventSeen
from pipeline.flow.subscription import Tenant
from pipeline.kafka.feed import Batch
from pipeline.kafka.processing import Learning, Recording
from pipeline.kafka.topics import AUDIT, CANCELS, ENDPOINT_STATE, KEYS, SUBSCRIPTIONS, TENANTS, WEBHOOK_TESTS
from pipeline.kafka.tracker import Progress
from pipeline.ports import Record
from pipeline.store.living import LivingTenants, forgetting
from pipeline.store.log import EventFilter
from pipeline.store.secrets import Unreadable, Vault, open_auth
from pipeline.store.targets import ViewTargets
from pipeline.workers.living import kept
from pipeline.workers.recorder import Projection
from tests.api.conftest import URL, Api
from tests.api.parts import NOW_MS, VAULT_KEY, Parts, memory_parts
from tests.kafka.live import eventually
from tests.prepared import ADMIN_KEY

pytestmark = pytest.mark.secrets


class Knowing:
    """A registry that has nothing new."""

    async def learn(self, values: Any) -> None:
        """Nothing."""


@dataclass
class World:
    """The API, its log, and a recorder of that log over the same view."""

    api: Api
    parts: Parts
    progress: Progress = field(default_factory=Progress)
    offset: int = -1
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    forgotten: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self.tenants = LivingTenants(self.parts.view, self.parts.codec, pause_s=0.001)
        self.recording = Recording(
            Projection(self.parts.codec),
            cast("Any", self),
            Learning(cast("Any", Knowing())),
            self.tenants,
        )

    def write(self, entries: Any, positions: Any = ()) -> None:
        """The recorder's writing into the API's own log, from its thread; while the gate is closed it waits there."""
        self.entered.set()
        assert self.gate.wait(10)
        self.parts.deps.log._asked(lambda log: log.write(entries, positions))

    def forget_tenant(self, tenant: str, before_ms: int | None = None) -> int:
        """As the recorder forgets."""
        count = self.parts.deps.log._asked(lambda log: log.forget_tenant(tenant, before_ms))
        self.forgotten.append(tenant)
        return count

    async def record(self, *events: str, tenant: str = "acme", at_ms: int | None = None) -> None:
        """The recorder reads these events, written at that time: now, if none is given."""
        written = self.parts.deps.clock() if at_ms is None else at_ms
        records = []
        for name in events:
            self.offset += 1
            self.progress.see(self.offset)
            value = self.parts.codec.encode_event(Event(name, tenant, "a.b", written, "{}"))
            records.append((Record("events", 0, self.offset, b"acme", value, (), written), self.progress))
        await self.recording(Batch(records, {}))

    async def audited(self, action: str) -> None:
        """The recorder reads that the tenant was changed so."""
        self.offset += 1
        self.progress.see(self.offset)
        value = self.parts.codec.encode_audit(Audit(f"aud_{self.offset}", 1, "k", "admin", action, "acme", "acme"))
        record = Record(AUDIT, 0, self.offset, b"acme", value, (), NOW_MS)
        await self.recording(Batch([(record, self.progress)], {}))

    async def events(self) -> list[str]:
        """The ids of the tenant's events in the log."""
        page = await self.parts.deps.log.ask(lambda log: log.events("acme", EventFilter(), None, 200))
        return sorted(row.id for row in page.items)

    async def hook(self) -> str:
        """Tenant acme, with a webhook: its id."""
        webhooks = await self.api.tenant()
        made: str = (await self.api.post(webhooks, {"url": URL, "events": ["*"]}))["id"]
        return made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    parts = memory_parts()
    transport = httpx.ASGITransport(create_app(parts.deps))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield World(Api(client), parts)
    parts.deps.log.close()


async def test_the_answer_says_what_goes_and_what_stays(world: World) -> None:
    """Webhooks, keys and rows are counted; each topic that keeps something is named with what and for how long."""
    await world.hook()
    await world.api.post("/v1/keys", {"role": "viewer", "tenant": "acme"})
    await world.record("e1", "e2")
    gone = await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    assert (gone["id"], gone["webhooks"], gone["keys"], gone["rows"]) == ("acme", 1, 1, 2)
    assert "no record of them that still lies somewhere can be opened" in gone["secrets"]
    assert {one["topic"]: one["days"] for one in gone["stays"]} == {
        "events": 14,
        "deliveries": 14,
        "retry-<wait>": 14,
        "retry-dlq": 30,
        "attempts": 30,
        "audit": 365,
        "endpoint-state": None,
    }


async def test_all_of_the_api_s_own_records_of_it_are_tombstones(world: World) -> None:
    """Tenant, webhooks, keys, tests and cancels are gone from the views; another tenant's are not touched."""
    for tenant in ("acme", "other"):
        webhooks = await world.api.tenant(tenant=tenant)
        await world.api.post(webhooks, {"url": URL, "events": ["*"]})
        await world.api.post("/v1/keys", {"role": "viewer", "tenant": tenant})
        cancel = Cancel(f"msg_{tenant}", "", tenant, "k", 1)
        world.parts.view.put(CANCELS, cancel.delivery, world.parts.codec.encode_cancel(cancel))
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    records = world.parts.view.records
    assert list(records[TENANTS]) == ["other"]
    assert list(records[CANCELS]) == ["msg_other"]
    assert [path.partition("/")[0] for path in records[SUBSCRIPTIONS]] == ["other"]
    assert [world.parts.codec.decode_api_key(raw).tenant for raw in records[KEYS].values()] == ["other"]
    assert not records[WEBHOOK_TESTS]
    assert not records[ENDPOINT_STATE]  # written by senders alone: nothing has been written for them


async def test_what_still_lies_in_logs_cannot_be_opened(world: World) -> None:
    """With the records of before, the deployment's keys and a later tenant of the same id: no old box opens."""
    webhook = await world.hook()
    held = world.parts.deps.directory.webhook("acme", webhook)
    assert held is not None
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    await world.api.tenant()
    later = world.parts.deps.directory.tenant("acme")
    assert later is not None
    with pytest.raises(Unreadable):
        open_auth(Vault((VAULT_KEY,)).tenant_vault(later), "acme", webhook, held.auth.sealed)
    with pytest.raises(Unreadable):
        open_auth(Vault((VAULT_KEY,)), "acme", webhook, held.auth.sealed)
    world.parts.view.put(SUBSCRIPTIONS, held.path, world.parts.codec.encode_subscription(held))  # an old copy returns
    targets = ViewTargets(world.parts.view, world.parts.codec, world.parts.vault)
    with suppress(Undecodable):
        assert targets.find("acme", webhook) is None


async def test_a_key_of_it_opens_nothing_any_more(world: World) -> None:
    """Neither at once nor when a tenant of the same id is made."""
    await world.hook()
    key = (await world.api.post("/v1/keys", {"role": "owner", "tenant": "acme"}))["key"]
    asked = {"Authorization": f"Bearer {key}"}
    assert (await world.api.client.get("/v1/tenants/acme", headers=asked)).status_code == 200
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    assert (await world.api.client.get("/v1/tenants/acme", headers=asked)).status_code == 401
    await world.api.tenant()
    assert (await world.api.client.get("/v1/tenants/acme", headers=asked)).status_code == 401


async def test_nothing_of_it_is_recorded_again(world: World) -> None:
    """What the recorder reads after the removal stays out of the log, also for a later tenant of the same id."""
    await world.hook()
    await world.record("before")
    assert await world.events() == ["before"]
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    late = world.parts.deps.clock()
    await world.record("late", at_ms=late)
    assert await world.events() == []
    await world.api.tenant()
    await world.record("later still", at_ms=late)
    await world.record("of the new one")
    assert await world.events() == ["of the new one"]


async def test_a_recorder_that_starts_later_knows_it_from_the_audit(world: World) -> None:
    """One that saw no tombstone (all is recorded anew) removes what it has recorded when it reads of the removal."""
    await world.hook()
    old = world.parts.deps.clock()
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    await world.api.tenant()
    world.__post_init__()  # a new process: its view knows the new tenant alone
    await world.record("old", at_ms=old)
    await world.record("new")
    assert await world.events() == ["new", "old"]
    task = asyncio.create_task(forgetting(world.tenants, world, world.recording.settled))
    await world.audited("createTenant")
    await world.audited(TENANT_REMOVED)
    await eventually(lambda: not world.parts.deps.log._asked(lambda log: log.event("acme", "old")))
    task.cancel()
    assert await world.events() == ["new"]
    await world.record("old", at_ms=old)
    assert await world.events() == ["new"]
    removed = await world.parts.deps.log.ask(lambda log: log.removed_tenants())
    assert removed == ("acme",)
    after = LivingTenants(world.parts.view, world.parts.codec, removed)
    assert (after.since_ms("acme") or 0) > old


async def test_a_batch_under_way_is_forgotten_after_it_is_written(world: World) -> None:
    """Rows that were judged before the removal and are written after it do not stay."""
    await world.hook()
    world.gate.clear()
    task = asyncio.create_task(forgetting(world.tenants, world, world.recording.settled))
    batch = asyncio.create_task(world.record("e1"))
    await asyncio.to_thread(world.entered.wait, 10)
    await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    await asyncio.sleep(0)
    world.gate.set()
    await batch
    await eventually(lambda: "acme" in world.forgotten)
    task.cancel()
    assert await world.events() == []


async def test_a_tenant_is_waited_for_that_is_not_known_yet(world: World) -> None:
    """An event may be read before its tenant's record: it is judged by a view as new as the broker, and recorded."""
    made = Tenant("acme", "A", "standard", data_key=world.parts.vault.new_tenant_key("acme"), created_ms=1)
    world.parts.view.on_asked = lambda: world.parts.view.put(TENANTS, "acme", world.parts.codec.encode_tenant(made))
    await world.record("e1")
    assert await world.events() == ["e1"]


async def test_an_old_timestamp_is_no_sign_of_an_earlier_tenant(world: World) -> None:
    """Where no tenant of that id has ever been removed, records of before its making are its own: imported ones."""
    await world.hook()
    await world.record("imported", at_ms=1)
    assert await world.events() == ["imported"]


async def test_a_log_that_is_down_forgets_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant is removed all the same; the answer says that the rows follow, and the recorder removes them."""
    await world.hook()
    await world.record("e1")
    down = True

    async def ask(_question: object) -> int:
        raise Unreachable("the database does not answer")

    class Down:
        def forget_tenant(self, tenant: str, before_ms: int | None = None) -> int:
            if down:
                raise Unreachable("the database does not answer")
            return world.forget_tenant(tenant, before_ms)

    monkeypatch.setattr("pipeline.store.living._PAUSE_S", 0.001)
    task = asyncio.create_task(forgetting(world.tenants, Down(), world.recording.settled))
    with monkeypatch.context() as patched:
        patched.setattr(type(world.parts.deps.log), "ask", lambda _self, question: ask(question))
        gone = await world.api.ask("DELETE", "/v1/tenants/acme", None, 200)
    assert gone["rows"] is None
    assert await world.events() == ["e1"]
    down = False
    await eventually(lambda: not world.parts.deps.log._asked(lambda log: log.event("acme", "e1")))
    task.cancel()


def test_what_nobody_knew_stays_as_nobody_s() -> None:
    """An event of a tenant that was not there is a dead letter still; it is no tenant's."""

    class Nobody:
        def since_ms(self, _tenant: str) -> int | None:
            return None

    seen = DeadSeen("d1", "acme", None, None, "", Reason.UNKNOWN_TENANT.value, 1, 0, 0, "why", "e1", "a.b")
    nobody = cast("Any", Nobody())
    assert kept(seen, 1, nobody) == replace(seen, tenant=None, event=None, type=None)
    assert kept(replace(seen, reason="rejected"), 1, nobody) is None
    assert kept(replace(seen, tenant=None), 1, nobody) is not None
    assert kept(EventSeen("acme", "e", "t", 1, 0, 0), 1, nobody) is None
