"""Recovering a webhook since a time, on a real database and with the router's own rendering."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from pipeline.api.log import recovery
from pipeline.flow.audit import Audit
from pipeline.flow.deliver import Delivery
from pipeline.flow.history import EventSeen
from pipeline.kafka.changes import Change
from pipeline.kafka.topics import DELIVERIES, EVENTS
from pipeline.workers.carriage import of_headers
from tests.api.conftest import URL, Api, faults
from tests.api.logged import HOUR_MS, Logged, logged
from tests.api.parts import NOW_MS, Parts

SINCE = {"since": "2026-01-01T00:00:00Z"}


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    return await logged(api, parts, events=["order.*", "invoice.*"])


async def _recover(log: Logged, status: int = 202, **body: Any) -> Any:
    return await log.api.post(f"/v1/tenants/acme/webhooks/{log.webhook}/recover", {**SINCE, **body}, status)


def _sent(log: Logged) -> list[tuple[Delivery, str]]:
    published = [out for out in log.parts.records.published if out.topic == DELIVERIES]
    assert published == log.parts.records.published
    return [(log.parts.codec.delivery(out.value), of_headers(out.headers).round) for out in published]


async def _history(log: Logged) -> dict[str, Delivery]:
    """One delivery of each way to stand, and two events of which there is none."""
    made = {}
    for n, end in enumerate(("failed", "cancelled", "delivered", "retrying", "")):
        event = await log.event(f"e{n}", at=NOW_MS + n)
        made[end] = await log.delivery(event, end=end, at=NOW_MS + n)
    await log.event("missed", "invoice.paid", at=NOW_MS + 10)
    await log.event("not-wanted", "user.created", at=NOW_MS + 11)
    return made


async def test_what_it_missed_is_sent(log: Logged) -> None:
    """Failed and cancelled ones again, in rounds of their own; the unrouted one as the router would have made it."""
    made = await _history(log)
    said = await _recover(log)
    assert {name: said[name]["by_type"] for name in ("failed", "cancelled", "unrouted")} == {
        "failed": {"order.paid": 1},
        "cancelled": {"order.paid": 1},
        "unrouted": {"invoice.paid": 1},
    }
    assert (said["dry_run"], said["under_way"], said["gone"]) == (False, 0, 0)
    (failed, round_), (cancelled, other), (routed, first) = _sent(log)
    assert [failed, cancelled] == [made["failed"], made["cancelled"]]
    assert "" < round_ < other
    assert (routed.event, routed.webhook, routed.attempt, first) == ("missed", log.webhook, 1, "")
    assert orjson.loads(routed.body)["data"] == {"n": 1.5}
    assert (routed.origin.topic, routed.origin.partition, routed.origin.offset) == (EVENTS, 0, 5)
    assert log.parts.control.audits[-1].action == "recoverWebhook"


async def test_the_unrouted_delivery_is_the_routers_own(api: Api, log: Logged) -> None:
    """Its id is that of the delivery that the router makes of the event: a second writing of it is a repeat."""
    event = await log.event("missed", "invoice.paid")
    await _recover(log)
    ((routed, _),) = _sent(log)
    assert routed.id == (await log.delivery(event)).id
    await log.recorded()
    assert await log.status(routed) == "pending"
    await api.get(f"/v1/tenants/acme/deliveries/{routed.id}")


async def test_a_dry_run_counts_the_same_and_sends_nothing(log: Logged) -> None:
    """200 with each kind by type; nothing is written, not even who asked."""
    await _history(log)
    audits = len(log.parts.control.audits)
    counted = await _recover(log, 200, dry_run=True)
    assert _sent(log) == []
    assert len(log.parts.control.audits) == audits
    assert counted["dry_run"]
    assert {**await _recover(log), "dry_run": True} == counted


async def test_twice_is_as_once(log: Logged) -> None:
    """What the first one sends is left alone by the second, at the same moment and until the log shows it."""
    await _history(log)
    one, two = sorted(await asyncio.gather(_recover(log), _recover(log)), key=lambda said: said["under_way"])
    third = await _recover(log)
    assert len(_sent(log)) == 3
    for again in (two, third):
        assert [again[kind]["count"] for kind in ("failed", "cancelled", "unrouted")] == [0, 0, 0]
    assert (one["under_way"], two["under_way"], third["under_way"]) == (0, 3, 3)
    await log.recorded()
    fourth = await _recover(log)
    assert (fourth["under_way"], len(_sent(log))) == (0, 3)


async def test_a_redelivery_and_a_recovery_do_not_both_send(api: Api, log: Logged) -> None:
    """A recovery that comes while a redelivery is being written down is first; the redelivery is refused."""
    held = await log.delivery(await log.event(), end="failed")
    control = log.parts.control
    write = control.write

    async def written(audit: Audit, *changes: Change) -> None:
        if audit.action == "redeliver":
            assert (await _recover(log))["failed"]["count"] == 1
        await write(audit, *changes)

    control.write = written  # type: ignore[method-assign]
    await api.post(f"/v1/tenants/acme/deliveries/{held.id}/redeliver", status=409)
    assert len(_sent(log)) == 1


async def test_only_since_then(log: Logged) -> None:
    """What was made before is left alone."""
    await log.delivery(await log.event("old", at=NOW_MS - HOUR_MS), end="failed", at=NOW_MS - HOUR_MS)
    await log.event("old-missed", at=NOW_MS - HOUR_MS)
    await log.delivery(await log.event("new"), end="failed")
    await _recover(log)
    assert [one.event for one, _ in _sent(log)] == ["new"]


async def test_other_webhooks_are_left_alone(api: Api, log: Logged) -> None:
    """Neither another webhook's deliveries nor what it missed."""
    other = (await api.post("/v1/tenants/acme/webhooks", {"url": URL, "events": ["*"]}))["id"]
    await log.delivery(event := await log.event(), end="delivered")
    await log.delivery(event, webhook=other, end="failed")
    await log.event("only-other", "user.created")
    await _recover(log)
    assert _sent(log) == []


async def test_a_filter_decides_on_what_was_never_routed(api: Api, log: Logged) -> None:
    """Events are matched as they would be now, content too."""
    path = f"/v1/tenants/acme/webhooks/{log.webhook}"
    await api.patch(path, {"filter": "data.n > `2`"})
    for n in (1, 3):
        await log.event(f"e{n}", data=f'{{"n":{n}}}')
    said = await _recover(log)
    assert [one.event for one, _ in _sent(log)] == ["e3"]
    assert said["unrouted"]["count"] == 1


async def test_what_is_gone_is_counted(log: Logged) -> None:
    """What retention has taken cannot be sent, and is said to be so."""
    await _history(log)
    log.parts.records.trim(DELIVERIES)
    log.parts.records.trim(EVENTS)
    assert (await _recover(log))["gone"] == 3
    assert _sent(log) == []


async def test_one_that_would_get_nothing_is_refused(api: Api, log: Logged) -> None:
    """409 while the webhook is not active; 404 for one that is not there; 422 for a time that is none."""
    await _history(log)
    path = f"/v1/tenants/acme/webhooks/{log.webhook}"
    assert list(faults(await _recover(log, 422, since="yesterday"))) == ["/since"]
    await api.post(f"{path}x/recover", SINCE, 404)
    await api.post(f"{path}/deactivate", status=200)
    assert "inactive" in (await _recover(log, 409))["detail"]


async def test_too_much_is_refused(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """422 with the bound, and nothing is sent: neither too many to recover nor too many to look at."""
    await _history(log)
    monkeypatch.setattr(recovery, "MOST", 2)
    assert "more than" in (await _recover(log, 422))["detail"]
    monkeypatch.setattr(recovery, "MOST", 3)
    monkeypatch.setattr(recovery, "LOOKED_AT", 1)
    assert "events came since" in (await _recover(log, 422, dry_run=True))["detail"]
    assert _sent(log) == []


async def test_many_are_recovered_page_after_page(log: Logged) -> None:
    """More than a page of each kind, each exactly once, in the order of time."""
    count = 1_200
    event = await log.event()
    record = log.parts.records.held[EVENTS][0]
    assert record is not None
    made = [EventSeen("acme", f"m{n}", "order.paid", NOW_MS + n, 0, 0, NOW_MS + n) for n in range(count)]
    await log.write(*made)
    said = await _recover(log, 200, dry_run=True)
    assert said["unrouted"]["by_type"] == {event.type: count + 1}


async def test_a_broker_that_fails_midway_leaves_the_rest_for_the_next(log: Logged) -> None:
    """503; what was sent is not sent again, what was not is."""
    for n in range(recovery._PART + 10):
        await log.delivery(await log.event(f"e{n}", at=NOW_MS + n), end="failed", at=NOW_MS + n)
    records = log.parts.records
    read, reads = records.read, Counter[str]()

    async def read_once(topic: str, partition: int, offsets: Any) -> Any:
        reads[topic] += 1
        records.down = reads[topic] > 1
        return await read(topic, partition, offsets)

    records.read = read_once  # type: ignore[method-assign]
    await _recover(log, 503)
    records.down, records.read = False, read  # type: ignore[method-assign]
    said = await _recover(log)
    assert (said["under_way"], said["failed"]["count"]) == (recovery._PART, 10)
    assert len({one.id for one, _ in _sent(log)}) == len(_sent(log)) == recovery._PART + 10
