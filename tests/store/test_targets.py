from __future__ import annotations

import io
import json
import struct
import time
from dataclasses import replace

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from pipeline.errors import Undecodable
from pipeline.flow.deliver import Delivery, Origin
from pipeline.flow.subscription import Auth
from pipeline.kafka import records, schemas
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.kafka.writers import parsed
from pipeline.profiles import PROFILES
from pipeline.store import targets as targets_module
from pipeline.store.secrets import Unreadable, Vault
from pipeline.store.targets import ViewTargets
from tests.api.parts import NOW_MS
from tests.live_cluster import LiveCluster
from tests.prepared import codec_of, prepared
from tests.store.conftest import SECRET, World

DELIVERY = Delivery("msg_1", "acme", "wh_1", "e1", "a.b", None, 0, b"{}", 1, Origin("events", 0, 0, 0))
OLD_SECRET = "whsec_" + "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk"
NOW_S = NOW_MS / 1000


def targets(world: World, now_s: float = NOW_S) -> ViewTargets:
    return ViewTargets(world.view, world.codec, world.vault, lambda: now_s)


def signatures(found: ViewTargets) -> int:
    """How many signatures a request to the webhook would carry now."""
    target = found.find("acme", "wh_1")
    assert target is not None
    headers = dict(target.prepared.request(DELIVERY, 1).headers)
    return len(headers["webhook-signature"].split())


def test_a_webhook_is_found_ready_to_be_sent_to(world: World) -> None:
    """What is found carries its product and makes signed requests with the customer's own headers."""
    webhook = world.webhook(world.tenant())
    target = targets(world).find("acme", "wh_1")
    assert target is not None
    assert target.subscription == webhook
    request = target.prepared.request(DELIVERY, 1_614_265_330)
    headers = {name.lower(): value for name, value in request.headers}
    assert PROFILES["standard"].schemes[0].verify(headers, b"{}", {"secret": SECRET}, 1_614_265_330) is None
    assert headers["x-team"] == "blue"


@pytest.mark.parametrize("absent", ["webhook", "tenant", "both"])
def test_what_is_not_there_is_not_found(world: World, absent: str) -> None:
    """A webhook without its tenant, or the other way round, cannot be sent to."""
    tenant = world.tenant()
    world.webhook(tenant)
    if absent in ("webhook", "both"):
        world.view.put(SUBSCRIPTIONS, "acme/wh_1", None)
    if absent in ("tenant", "both"):
        world.view.put(TENANTS, "acme", None)
    assert targets(world).find("acme", "wh_1") is None


def test_an_inactive_webhook_is_not_found(world: World) -> None:
    """Nothing is sent to a webhook that is switched off."""
    world.webhook(world.tenant(), active=False)
    assert targets(world).find("acme", "wh_1") is None


def test_a_suspended_webhook_is_not_found(world: World) -> None:
    """Nothing is sent while the tenant's precondition does not hold, and all is as before when it holds again."""
    tenant = world.tenant(profile="qase", plan="startup")
    world.webhook(tenant, auth=Auth("qase_secret"))
    found = targets(world)
    for plan, there in (("startup", True), ("free", False), ("business", True)):
        world.tenant(profile="qase", plan=plan, data_key=tenant.data_key)
        assert (found.find("acme", "wh_1") is not None) is there


def test_a_disabled_webhook_is_not_found(world: World) -> None:
    """Nothing is sent to a webhook that failures have disabled, from the moment that the view has it."""
    webhook = world.webhook(world.tenant())
    found = targets(world)
    assert found.find("acme", "wh_1") is not None
    world.state(webhook, disabled=True, reason="gone")
    assert found.find("acme", "wh_1") is None
    assert targets(world).find("acme", "wh_1") is None


def test_an_activated_webhook_is_found_again(world: World) -> None:
    """A state of an older generation counts for nothing, also one that is written late; a newer one counts."""
    tenant = world.tenant()
    webhook = world.webhook(tenant)
    world.state(webhook, disabled=True)
    found = targets(world)
    assert found.find("acme", "wh_1") is None
    world.webhook(tenant, generation=2)
    assert found.find("acme", "wh_1") is not None
    world.state(webhook, disabled=True, failures=99)
    assert found.find("acme", "wh_1") is not None
    world.state(webhook, disabled=True, generation=2)
    assert found.find("acme", "wh_1") is None


def test_a_state_leaves_a_webhook_ready(world: World) -> None:
    """What senders tell of an endpoint every few seconds does not make them open its secrets anew."""
    webhook = world.webhook(world.tenant())
    found = targets(world)
    ready = found.find("acme", "wh_1")
    for number in range(3):
        world.state(webhook, failures=number, reserved_until_ms=NOW_MS)
        assert found.find("acme", "wh_1") is ready
    state = found.states.of("acme/wh_1")
    assert state is not None
    assert (state.failures, state.reserved_until_ms) == (2, NOW_MS)


async def test_a_state_that_cannot_be_read_stops_no_delivery(world: World) -> None:
    """An unreadable state is no reason to wait, to skip or to bury anything, and its webhook is kept ready."""
    world.webhook(world.tenant())
    found = targets(world)
    world.view.put(ENDPOINT_STATE, "acme/wh_1", b"junk")
    ready = found.find("acme", "wh_1")
    assert ready is not None
    assert found.find("acme", "wh_1") is ready
    await found.reached(0)
    assert world.view.asked == 0


def test_a_state_of_another_version_counts_once_its_schema_is_known(world: World) -> None:
    """A newer sender's state is looked at again until its schema is known: then its webhook is disabled."""
    webhook = world.webhook(world.tenant())
    found = targets(world)
    assert found.find("acme", "wh_1") is not None
    world.state(webhook, disabled=True)
    known = world.view.get(ENDPOINT_STATE, "acme/wh_1") or b""
    world.view.put(ENDPOINT_STATE, "acme/wh_1", b"\x00\x00\x00\x01\x00" + known[5:])
    assert found.find("acme", "wh_1") is not None
    writer = parsed([schemas.load("endpoint_state")])
    assert writer is not None
    world.codec.writers[256] = writer
    assert found.find("acme", "wh_1") is None


def test_a_change_is_seen_at_once(world: World) -> None:
    """An edited webhook is made ready anew with the next look; others stay as they are."""
    tenant = world.tenant()
    world.webhook(tenant)
    world.webhook(tenant, "wh_2")
    found = targets(world)
    other = found.find("acme", "wh_2")
    before = found.find("acme", "wh_1")
    assert found.find("acme", "wh_1") is before
    world.webhook(tenant, url="https://other.example/")
    after = found.find("acme", "wh_1")
    assert after is not None
    assert after.prepared.url == "https://other.example/"
    assert found.find("acme", "wh_2") is other


def test_an_old_secret_signs_along_until_its_time(world: World) -> None:
    """A rotated secret is used beside the new one during its grace and no longer, without anybody writing a record."""
    world.webhook(world.tenant(), previous=((OLD_SECRET, NOW_MS + 1_000),))
    now = [NOW_S]
    found = ViewTargets(world.view, world.codec, world.vault, lambda: now[0])
    assert signatures(found) == 2
    now[0] += 1
    assert signatures(found) == 1


async def test_a_tenants_view_that_is_behind_is_waited_for(world: World) -> None:
    """A webhook whose tenant's record has not been read yet is not gone: `reached` waits for it."""
    tenant = world.tenant()
    world.webhook(tenant)
    record = world.view.get(TENANTS, "acme")
    world.view.put(TENANTS, "acme", None)
    world.view.on_asked = lambda: world.view.put(TENANTS, "acme", record)
    found = targets(world)
    assert found.find("acme", "wh_1") is None
    await found.reached(0)
    assert found.find("acme", "wh_1") is not None


async def test_a_webhook_that_is_gone_asks_nobody(world: World) -> None:
    """A webhook without a record is judged by the subscriptions' offset alone, however many deliveries wait for it."""
    world.tenant()
    found = targets(world)
    assert found.find("acme", "wh_1") is None
    await found.reached(0)
    assert world.view.asked == 0


async def test_a_webhook_of_an_earlier_tenant_is_gone(world: World) -> None:
    """What a removed tenant of the same id left behind is no webhook of the new one, and no fault."""
    world.webhook(world.tenant())
    world.tenant()
    found = targets(world)
    assert found.find("acme", "wh_1") is None
    await found.reached(0)
    assert found.find("acme", "wh_1") is None


def test_a_key_that_is_not_here_stops_the_process(world: World) -> None:
    """Secrets of a key that this process does not have are its operator's fault, not the delivery's."""
    world.webhook(world.tenant())
    found = ViewTargets(world.view, world.codec, Vault((("other", bytes(32)),)))
    with pytest.raises(Unreadable, match="'k1'"):
        found.find("acme", "wh_1")


def test_a_record_that_cannot_be_used_is_told_of(world: World) -> None:
    """A torn control record, another's, one of a wrong kind or with altered secrets hurts its own webhook alone."""
    tenant = world.tenant()
    webhook, other = world.webhook(tenant), world.webhook(tenant, "wh_2")
    whole, sealed = world.codec.encode_subscription, webhook.auth.sealed
    assert sealed is not None
    altered = replace(sealed, box=sealed.box[:-1] + bytes((sealed.box[-1] ^ 1,)))
    for record in (
        *(b"", b"junk", whole(webhook)[:-3], whole(webhook)[:5] + world.codec.encode_tenant(tenant)[5:]),
        whole(other),
        whole(replace(webhook, auth=Auth("unheard-of", sealed))),
        whole(replace(webhook, auth=Auth("standard_webhooks", None))),
        whole(replace(webhook, auth=Auth("standard_webhooks", altered))),
        whole(replace(webhook, auth=Auth("standard_webhooks", replace(sealed, box=b"")))),
    ):
        world.view.put(SUBSCRIPTIONS, webhook.path, record)
        with pytest.raises(Undecodable):
            targets(world).find("acme", "wh_1")
        assert targets(world).find("acme", "wh_2") is not None


@pytest.mark.parametrize("record", [b"", b"junk", "profile", "data_key"])
def test_a_tenant_that_cannot_be_used_is_told_of(world: World, record: bytes | str) -> None:
    """A tenant's record that cannot be used hurts its own webhooks alone."""
    tenant = world.tenant()
    world.webhook(tenant)
    world.webhook(world.tenant("other"))
    if isinstance(record, str):
        wrong = {"profile": "unheard-of", "data_key": None}[record]
        record = world.codec.encode_tenant(replace(tenant, **{record: wrong}))  # type: ignore[arg-type]
    world.view.put(TENANTS, "acme", record)
    with pytest.raises(Undecodable):
        targets(world).find("acme", "wh_1")
    assert targets(world).find("other", "wh_1") is not None


async def test_an_offset_that_was_never_there_is_not_waited_for(world: World) -> None:
    """A delivery that claims to have seen more of the subscriptions than there is does not hold its partition up."""
    found = ViewTargets(world.view, world.codec, world.vault, pause_s=0)
    with pytest.raises(Undecodable, match="routed at offset 4611686018427387904 of subscriptions, which ends at"):
        await found.reached(2**62)


async def test_a_record_of_another_version_is_read_once_its_schema_is_known(world: World, cluster: LiveCluster) -> None:
    """A webhook that an older API wrote is not gone: its schema is learned from the registry, then it is sent to."""
    webhook = world.webhook(world.tenant())
    older = schemas.load("subscription")
    older = {**older, "fields": [one for one in older["fields"] if one["name"] not in ("filter", "generation")]}
    settings = prepared(cluster)
    with SchemaRegistryClient({"url": settings.schema_registry}) as registry:
        number = registry.register_schema("older-subscriptions", Schema(json.dumps(older), "AVRO"))
    out = io.BytesIO(struct.pack(">bI", 0, number))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(older), records.from_subscription(webhook))
    world.view.put(SUBSCRIPTIONS, webhook.path, out.getvalue())
    async with codec_of(settings) as codec:
        world.view.put(TENANTS, "acme", codec.encode_tenant(world.codec.decode_tenant(world.view.get(TENANTS, "acme"))))
        found = ViewTargets(world.view, codec, world.vault)
        assert found.find("acme", "wh_1") is None
        await found.reached(0)
        target = found.find("acme", "wh_1")
    assert target is not None
    assert target.subscription == webhook


def test_the_number_of_webhooks_kept_ready_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used webhook makes room; it is made ready again when it is asked for."""
    monkeypatch.setattr(targets_module, "READY", 2)
    tenant = world.tenant()
    for number in range(3):
        world.webhook(tenant, f"wh_{number}")
    found = targets(world)
    first = found.find("acme", "wh_0")
    second = found.find("acme", "wh_1")
    assert found.find("acme", "wh_0") is first
    found.find("acme", "wh_2")
    assert found.find("acme", "wh_0") is first
    assert found.find("acme", "wh_1") not in (None, second)


def test_a_cached_look_is_quick(world: World) -> None:
    """Finding a webhook that is ready costs about a microsecond: it is on the path of every delivery."""
    world.webhook(world.tenant())
    found = targets(world)
    found.find("acme", "wh_1")
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(10_000):
            found.find("acme", "wh_1")
        best = min(best, time.perf_counter() - started)
    assert best / 10_000 < 2e-6
