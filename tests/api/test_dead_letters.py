"""Dead letters over REST: listed and counted, shown, brought back, discarded."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from pipeline.flow.audit import LETTER_DISCARDED
from pipeline.flow.cancels import Cancel
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Delivery
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.history import AuditSeen, DeadSeen
from pipeline.flow.replay import Ordered, Replay, Source, Span
from pipeline.kafka.topics import CANCELS, DEAD_LETTERS, DELIVERIES, ENDPOINT_STATE, EVENTS, REPLAYS
from pipeline.ports import Outgoing, Record
from pipeline.workers.carriage import FIRST, of_headers
from pipeline.workers.dead import Undertaker
from pipeline.workers.recorder import Projection
from tests.api.conftest import Api
from tests.api.logged import Logged, logged
from tests.api.parts import NOW_MS, Parts

pytestmark = pytest.mark.replay

LETTERS = "/v1/dead-letters"
LATER = NOW_MS + 60_000


@dataclass
class Dead:
    """The API with dead letters of tenant `acme`, and of nobody."""

    log: Logged
    api: Api
    parts: Parts

    async def put(self, out: Outgoing) -> DeadSeen:
        """A letter in `retry-dlq`, and in the log."""
        record = self.parts.records.put(out)
        seen = Projection(self.parts.codec)(record)
        assert isinstance(seen, DeadSeen)
        await self.log.write(seen)
        return seen

    async def bury(self, record: Record, reason: Reason, detail: str = "why", **more: Any) -> DeadSeen:
        """As the workers do, a minute after the tenant was made."""
        return await self.put(Undertaker(self.parts.codec, lambda: LATER).bury(record, reason, detail, **more))

    async def delivery(self, ident: str = "e1", reason: Reason = Reason.GONE) -> tuple[Delivery, DeadSeen]:
        """A delivery that has ended in a letter."""
        held = await self.log.delivery(await self.log.event(ident))
        record = self.parts.records.held[DELIVERIES][-1]
        assert record is not None
        return held, await self.bury(record, reason, delivery=held)

    async def event(self, tenant: str = "acme", reason: Reason = Reason.UNKNOWN_TENANT) -> DeadSeen:
        """An event that could not be routed."""
        event = Event("e9", tenant, "order.paid", NOW_MS, '{"n":9}')
        record = self.parts.records.put(Outgoing(EVENTS, None, self.parts.codec.encode_event(event)))
        return await self.bury(record, reason)

    async def recorded(self) -> None:
        """The log comes to know all that was published."""
        await self.log.recorded()
        held = [one for one in self.parts.records.held[DEAD_LETTERS] if one is not None]
        seen = [Projection(self.parts.codec)(one) for one in held]
        await self.log.write(*[one for one in seen if one is not None])
        await self.log.write(*map(AuditSeen, self.parts.control.audits))

    async def state(self, letter: DeadSeen) -> str:
        """As a client sees it."""
        return str((await self.api.get(f"{LETTERS}/{letter.id}"))["state"])

    def sent(self) -> list[Delivery]:
        """What has been published to `deliveries`."""
        out = [one for one in self.parts.records.published if one.topic == DELIVERIES]
        return [self.parts.codec.delivery(one.value) for one in out]


@pytest_asyncio.fixture
async def dead(api: Api, parts: Parts) -> AsyncIterator[Dead]:
    yield Dead(await logged(api, parts), api, parts)
    parts.deps.log.close()


async def test_letters_are_listed_by_every_filter(dead: Dead) -> None:
    """The newest first, each saying whose it is, why it is there and how it stands."""
    _, gone = await dead.delivery()
    _, exhausted = await dead.delivery("e2", Reason.EXHAUSTED)
    stray = await dead.bury(Record("events", 0, 7, None, b"\xff", (), NOW_MS), Reason.FRAMING)
    (first, *_) = (await dead.api.get(f"{LETTERS}?webhook={dead.log.webhook}&tenant=acme&reason=gone"))["items"]
    assert first == {
        "id": gone.id,
        "reason": "gone",
        "detail": "why",
        "state": "waiting",
        "tenant": "acme",
        "webhook": dead.log.webhook,
        "delivery": gone.delivery,
        "event": "e1",
        "type": "order.paid",
        "created_at": "2026-01-01T00:01:00.000Z",
        "record": {"topic": "retry-dlq", "partition": 0, "offset": 0},
    }
    for asked, found in {
        "": {gone.id, exhausted.id, stray.id},
        "?tenant=acme": {gone.id, exhausted.id},
        "?type=order.paid&reason=exhausted": {exhausted.id},
        "?state=waiting&reason=framing": {stray.id},
        "?state=redriven": set(),
        "?from=2026-01-01T00:01:00Z": {gone.id, exhausted.id, stray.id},
        "?to=2026-01-01T00:01:00Z": set(),
    }.items():
        assert {one["id"] for one in (await dead.api.get(LETTERS + asked))["items"]} == found, asked
    page = await dead.api.get(f"{LETTERS}?limit=2")
    rest = await dead.api.get(f"{LETTERS}?limit=2&cursor={page['next']}")
    assert len({one["id"] for one in page["items"] + rest["items"]}) == 3
    refused = await dead.api.ask("GET", f"{LETTERS}?webhook=wh_1", None, 422)
    assert refused["errors"][0]["field"] == "/tenant"


async def test_letters_are_counted(dead: Dead) -> None:
    """By reason, tenant, webhook or type, in all and of those that fit."""
    await dead.delivery()
    await dead.delivery("e2")
    await dead.event("nobody")
    counted = await dead.api.get(f"{LETTERS}?group_by=reason")
    assert (counted["group_by"], counted["total"]) == ("reason", 3)
    assert [(one["value"], one["count"]) for one in counted["groups"]] == [("gone", 2), ("unknown_tenant", 1)]
    (webhook,) = (await dead.api.get(f"{LETTERS}?group_by=webhook&reason=gone"))["groups"]
    times = {"oldest_at": "2026-01-01T00:01:00.000Z", "newest_at": "2026-01-01T00:01:00.000Z"}
    assert webhook == {"value": dead.log.webhook, "tenant": "acme", "count": 2, **times}


async def test_a_letter_is_shown_whole(dead: Dead) -> None:
    """Its record as text where it is text, else as base64; its delivery's body; and why, once it is gone."""
    _, letter = await dead.delivery()
    shown = await dead.api.get(f"{LETTERS}/{letter.id}")
    assert (shown["body"], shown["source"]["topic"], shown["key"]) == ('{"body":1}', "deliveries", letter_key(dead))
    assert base64.b64decode(shown["value_base64"])[:1] == b"\0"
    assert [one["name"] for one in shown["headers"]] == ["round", "hop", "wait-ms", "slot-ms"]
    assert shown["headers"][1] == {"name": "hop", "text": "0", "base64": None}
    record = Record("events", 0, 7, b"k", "{ünfit".encode(), (("h", b"\xff"),), NOW_MS)
    text = await dead.api.get(f"{LETTERS}/{(await dead.bury(record, Reason.FRAMING)).id}")
    assert (text["value_text"], text["value_base64"]) == ("{ünfit", None)
    assert text["headers"] == [{"name": "h", "text": None, "base64": "/w=="}]
    dead.parts.records.trim(DEAD_LETTERS)
    gone = await dead.api.get(f"{LETTERS}/{letter.id}")
    assert (gone["reason"], gone["source"]) == ("gone", None)
    assert "retention has taken it" in gone["note"]
    assert "retention" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]


def letter_key(dead: Dead) -> str:
    return f"acme/{dead.log.webhook}"


async def test_a_delivery_is_redriven(dead: Dead) -> None:
    """The same id and bytes in a fresh round; meanwhile it cannot go twice, by this way or as a delivery."""
    held, letter = await dead.delivery()
    dead.parts.view.put(CANCELS, held.id, dead.parts.codec.encode_cancel(Cancel(held.id, "", "acme", "k", NOW_MS)))
    answer = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202)
    (out,) = dead.parts.records.published
    assert (dead.sent(), out.key) == ([held], held.path.encode())
    assert answer == {"id": letter.id, "deliveries": [held.id], "round": of_headers(out.headers).round}
    assert answer["round"] > ""
    assert dead.parts.view.get(CANCELS, held.id) is None
    audit = dead.parts.control.audits[-1]
    assert (audit.action, audit.tenant, audit.target, audit.detail) == (
        *("redriveDeadLetter", "acme", letter.id, held.id),
    )
    again = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert "already" in again["detail"]
    assert "already" in (await dead.api.ask("DELETE", f"{LETTERS}/{letter.id}", None, 409))["detail"]
    await dead.recorded()
    assert await dead.state(letter) == "under_way"
    await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    await dead.api.post(f"/v1/tenants/acme/deliveries/{held.id}/redeliver", None, 409)
    await dead.log.attempt(held, "delivered", answer["round"])
    assert await dead.state(letter) == "redriven"
    assert len(dead.parts.records.published) == 1


async def test_nothing_is_redriven_to_a_webhook_that_gets_nothing(dead: Dead) -> None:
    """The refusal has the command that mends it; of one that is gone it says that."""
    _, letter = await dead.delivery()
    where = f"/v1/tenants/acme/webhooks/{dead.log.webhook}"
    await dead.api.post(f"{where}/deactivate", None, 200)
    refused = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert f"pipeline webhooks activate acme {dead.log.webhook}" in refused["detail"]
    await dead.api.post(f"{where}/activate", None, 200)
    held = dead.parts.deps.webhook("acme", dead.log.webhook)
    sick = EndpointState("acme", held.webhook, held.generation, disabled=True, reason="gone")
    dead.parts.view.put(ENDPOINT_STATE, held.path, dead.parts.codec.encode_endpoint_state(sick))
    assert "disabled" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]
    await dead.api.ask("DELETE", where, None, 204)
    assert "gone" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]
    assert dead.parts.records.published == []


async def test_a_delivery_that_could_not_be_read_is_known_afterwards(dead: Dead) -> None:
    """Its letter did not say whose it is; redriven, it does. To a webhook that is inactive it does not go."""
    held = await dead.log.delivery(await dead.log.event())
    record = dead.parts.records.held[DELIVERIES][-1]
    assert record is not None
    letter = await dead.bury(replace(record, headers=(("hop", b"x"),)), Reason.FRAMING)
    where = f"/v1/tenants/acme/webhooks/{dead.log.webhook}"
    await dead.api.post(f"{where}/deactivate", None, 200)
    assert "is inactive" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]
    await dead.api.post(f"{where}/activate", None, 200)
    assert (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202))["deliveries"] == [held.id]
    assert dead.sent() == [held]
    await dead.recorded()
    shown = await dead.api.get(f"{LETTERS}/{letter.id}")
    assert (shown["delivery"], shown["tenant"], shown["state"]) == (held.id, "acme", "under_way")


async def test_a_delivery_that_the_log_does_not_have_goes_once(dead: Dead) -> None:
    """Of a log that has lost it, or is behind, no second redrive takes that for an end."""
    held = await dead.log.delivery(await dead.log.event())
    record = dead.parts.records.held[DELIVERIES][-1]
    assert record is not None
    out = Undertaker(dead.parts.codec, lambda: LATER).bury(record, Reason.GONE, "why", held)
    letter = await dead.put(out)
    await dead.parts.deps.log.ask(lambda log: log.forget_tenant("acme"))
    await dead.log.write(replace(letter, delivery=None))
    await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202)
    assert "already" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]
    assert dead.sent() == [held]


async def test_an_event_is_routed_anew(dead: Dead) -> None:
    """To who wants it now, for the first time; the letter is written anew, and says that it is done."""
    letter = await dead.event()
    answer = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202)
    (delivery,) = dead.sent()
    assert (delivery.event, delivery.webhook) == ("e9", dead.log.webhook)
    assert (answer["deliveries"], answer["round"]) == ([delivery.id], "")
    assert [out.headers for out in dead.parts.records.published if out.topic == DELIVERIES] == [FIRST]
    assert "already" in (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409))["detail"]
    await dead.recorded()
    assert await dead.state(letter) == "redriven"
    refused = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert "every webhook that wants the event has its delivery" in refused["detail"]


async def test_a_record_that_was_cut_is_read_where_it_lay(dead: Dead) -> None:
    """Of what a letter could not carry the digest is shown; it is taken from its topic while that has it."""
    event = dead.parts.codec.encode_event(Event("e8", "acme", "order.paid", NOW_MS, "8"))
    record = dead.parts.records.put(Outgoing(EVENTS, None, event, (("h", bytes(9 * 1024 * 1024)),)))
    letter = await dead.bury(record, Reason.UNKNOWN_TYPE)
    assert len((await dead.api.get(f"{LETTERS}/{letter.id}"))["value_sha256"]) == 64
    held = dead.parts.records.held[EVENTS]
    dead.parts.records.trim(EVENTS)
    refused = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert "events does not hold it any more" in refused["detail"]
    dead.parts.records.held[EVENTS] = held
    await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202)
    assert [delivery.event for delivery in dead.sent()] == ["e8"]


async def test_what_is_still_wrong_is_said(dead: Dead) -> None:
    """An event of a tenant that still is not known stays where it is."""
    letter = await dead.event("nobody")
    refused = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert refused["detail"] == "The dead letter cannot be redriven: tenant 'nobody' is not known."
    assert await dead.state(letter) == "waiting"


async def test_a_discarded_letter_stays_and_is_not_redriven(dead: Dead) -> None:
    """At once, and when the log knows; who did it is written down, once."""
    _, letter = await dead.delivery()
    for _ in range(2):
        await dead.api.ask("DELETE", f"{LETTERS}/{letter.id}", None, 204)
    refused = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert "discarded" in refused["detail"]
    (audit,) = [one for one in dead.parts.control.audits if one.action == LETTER_DISCARDED]
    assert (audit.tenant, audit.target, audit.detail) == ("acme", letter.id, "gone")
    await dead.recorded()
    assert await dead.state(letter) == "discarded"
    await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert dead.parts.records.published == []


async def test_a_set_is_an_order(dead: Dead) -> None:
    """What waits and fits is counted; an order of it is a replay whose window is `retry-dlq`, with the same filters."""
    await dead.delivery()
    _, other = await dead.delivery("e2", Reason.EXHAUSTED)
    await dead.api.ask("DELETE", f"{LETTERS}/{other.id}", None, 204)
    await dead.recorded()
    which = {"tenant": "acme", "webhook": dead.log.webhook, "type": "order.paid", "from": "2026-01-01T00:00:30Z"}
    counted = await dead.api.post(f"{LETTERS}/redrive", {**which, "dry_run": True, "rate": 4}, 200)
    assert (counted["letters"], counted["by_reason"], counted["by_type"]) == (1, {"gone": 1}, {"order.paid": 1})
    assert counted["by_webhook"] == {letter_key(dead): 1}
    assert (counted["rate"], counted["duration_s"]) == (4, 0.2)
    assert not dead.parts.view.records[REPLAYS]
    made = await dead.api.post(f"{LETTERS}/redrive", {**which, "reason": "gone", "rate": 4}, 202)
    order = dead.parts.codec.decode_replay(dead.parts.view.get(REPLAYS, made["id"]))
    assert order == Replay(
        made["id"],
        "acme",
        Ordered.RUNNING,
        (Span(0, 0, 2),),
        ("order.paid",),
        (dead.log.webhook,),
        rate=4.0,
        by="admin",
        created_ms=order.created_ms,
        updated_ms=order.updated_ms,
        source=Source.DEAD_LETTERS,
        reasons=("gone",),
        from_ms=NOW_MS + 30_000,
    )
    audit = dead.parts.control.audits[-1]
    assert (audit.action, audit.target) == ("redriveDeadLetters", made["id"])


async def test_a_set_that_retention_has_taken_is_no_order(dead: Dead) -> None:
    """The log knows of letters that Kafka does not have any more: an order of nothing would be done at once."""
    await dead.delivery()
    dead.parts.records.trim(DEAD_LETTERS)
    assert "retention has taken them" in (await dead.api.post(f"{LETTERS}/redrive", {}, 409))["detail"]
    assert not dead.parts.view.records[REPLAYS]


async def test_a_letter_is_in_one_redrive_at_a_time(dead: Dead) -> None:
    """While an order may be at it, neither another order nor a redrive by hand gets it; then both do."""
    _, letter = await dead.delivery()
    made = await dead.api.post(f"{LETTERS}/redrive", {"reason": "gone"}, 202)
    by_hand = await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 409)
    assert made["id"] in by_hand["detail"]
    assert made["id"] in (await dead.api.post(f"{LETTERS}/redrive", {}, 409))["detail"]
    await dead.api.post(f"/v1/replays/{made['id']}/cancel", None, 202)
    await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202)


async def test_a_delivery_is_not_redelivered_while_an_order_is_at_its_letter(dead: Dead) -> None:
    """It would go twice: by hand and with the order. One that the order does not mean goes."""
    held, _ = await dead.delivery()
    await dead.log.attempt(held, "failed")
    other, _ = await dead.delivery("e2", Reason.EXHAUSTED)
    await dead.log.attempt(other, "failed")
    made = await dead.api.post(f"{LETTERS}/redrive", {"reason": "gone"}, 202)
    path = "/v1/tenants/acme/deliveries"
    assert made["id"] in (await dead.api.post(f"{path}/{held.id}/redeliver", None, 409))["detail"]
    await dead.api.post(f"{path}/{other.id}/redeliver", None, 202)
    await dead.api.post(f"/v1/replays/{made['id']}/cancel", None, 202)
    await dead.api.post(f"{path}/{held.id}/redeliver", None, 202)
    assert dead.sent() == [other, held]


async def test_a_letter_whose_delivery_was_only_skipped_waits_again(dead: Dead) -> None:
    """Its webhook was switched off meanwhile, or somebody has cancelled it: nothing came, so it can go once more."""
    held, letter = await dead.delivery()
    for number in range(2):
        round_ = (await dead.api.post(f"{LETTERS}/{letter.id}/redrive", None, 202))["round"]
        await dead.recorded()
        assert await dead.state(letter) == "under_way"
        await dead.log.attempt(held, "cancelled", round_)
        assert await dead.state(letter) == "waiting"
        assert len(dead.sent()) == number + 1
    assert (await dead.api.post(f"{LETTERS}/redrive", {"dry_run": True}, 200))["letters"] == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"webhook": "wh_1"}, 422, "Name the tenant"),
        ({"tenant": "acme", "webhook": "wh_none"}, 409, "gone"),
        ({"reason": "lost"}, 422, "framing"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 422, "later than `from`"),
        ({"from": "yesterday"}, 422, "RFC 3339"),
        ({"rate": 0}, 422, "greater than or equal to 0.01"),
        ({"rate": 2_001}, 422, "2000"),
        ({"type": "no.such"}, 409, "No dead letter waits that fits"),
        ({"state": "waiting"}, 422, "no such field"),
    ],
)
async def test_a_set_that_cannot_be(dead: Dead, body: dict[str, Any], status: int, said: str) -> None:
    """Each refusal says what is wrong; nothing is ordered."""
    await dead.delivery()
    refused = await dead.api.post(f"{LETTERS}/redrive", body, status)
    assert said in str(refused)
    assert not dead.parts.view.records[REPLAYS]


async def test_a_tenants_admin_sees_and_redrives_its_own(dead: Dead) -> None:
    """Neither another's letters, nor the platform's, nor those of an earlier tenant of its id."""
    _, own = await dead.delivery()
    stray = await dead.bury(Record("events", 0, 7, None, b"\xff", (), NOW_MS), Reason.FRAMING)
    foreign = replace(own, id="dl_foreign", tenant="other")
    earlier = replace(own, id="dl_earlier", time_ms=NOW_MS - 1)
    await dead.log.write(foreign, earlier)
    key = await dead.api.post("/v1/keys", {"role": "admin", "tenant": "acme"})
    admin = dead.api.using(key["key"])
    assert [one["id"] for one in (await admin.get(LETTERS))["items"]] == [own.id]
    assert (await admin.get(f"{LETTERS}?group_by=reason"))["total"] == 1
    for letter in (stray, foreign, earlier):
        await admin.ask("GET", f"{LETTERS}/{letter.id}", None, 404)
        await admin.post(f"{LETTERS}/{letter.id}/redrive", None, 404)
        await admin.ask("DELETE", f"{LETTERS}/{letter.id}", None, 404)
    await admin.ask("GET", f"{LETTERS}?tenant=other", None, 404)
    await admin.post(f"{LETTERS}/redrive", {"tenant": "other"}, 404)
    assert (await admin.post(f"{LETTERS}/redrive", {"dry_run": True}, 200))["letters"] == 1
    order = await admin.post(f"{LETTERS}/redrive", {}, 202)
    held = dead.parts.codec.decode_replay(dead.parts.view.get(REPLAYS, order["id"]))
    made_ms = dead.parts.deps.tenant("acme").created_ms
    assert (held.tenant, held.from_ms) == ("acme", made_ms)
    manager = await dead.api.post("/v1/keys", {"role": "manager", "tenant": "acme"})
    await dead.api.using(manager["key"]).ask("GET", LETTERS, None, 403)
