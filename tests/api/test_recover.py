"""Recovering a webhook since a time: a replay to it alone of what it has missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow.replay import Ordered, Outcome, Replay, Span
from pipeline.kafka.topics import DELIVERIES, REPLAYS
from tests.api.conftest import URL, Api, faults
from tests.api.logged import HOUR_MS, Logged, logged
from tests.api.parts import NOW_MS, Parts

pytestmark = pytest.mark.replay

SINCE = {"since": "2026-01-01T00:30:00Z"}
AT_MS = NOW_MS + HOUR_MS


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    return await logged(api, parts, events=["order.*", "invoice.*"])


async def _recover(log: Logged, status: int = 202, **body: Any) -> Any:
    return await log.api.post(f"/v1/tenants/acme/webhooks/{log.webhook}/recover", {**SINCE, **body}, status)


async def _history(log: Logged) -> None:
    """One delivery of each way to stand, and two events of which there is none."""
    for n, end in enumerate(("failed", "cancelled", "delivered", "retrying", "")):
        event = await log.event(f"e{n}", at=AT_MS + n)
        await log.delivery(event, end=end, at=AT_MS + n)
    await log.event("missed", "invoice.paid", at=AT_MS + 10)
    await log.event("not-wanted", "user.created", at=AT_MS + 11)


def _counts(said: Any) -> dict[str, Any]:
    return {name: said[name]["by_type"] for name in ("failed", "cancelled", "unrouted")}


async def test_it_is_a_replay_of_what_was_missed(log: Logged) -> None:
    """202 with the replay: to this webhook alone, outcome missed, up to where the router is; who asked is recorded."""
    await _history(log)
    log.parts.records.routed = 6
    said = await _recover(log)
    held = log.parts.deps.replays.replay(said["id"])
    assert held is not None
    assert held == Replay(
        said["id"], "acme", Ordered.RUNNING, (Span(0, 0, 6),), (), (log.webhook,), Outcome.MISSED,
        by="admin", created_ms=held.created_ms, updated_ms=held.created_ms, from_ms=NOW_MS + HOUR_MS // 2,
    )  # fmt: skip
    assert await log.api.get("/v1/replays?tenant=acme") == {
        "items": [{name: value for name, value in said.items() if name != "gap"}],
        "next": None,
    }
    audit = log.parts.control.audits[-1]
    assert (audit.action, audit.target) == ("recoverWebhook", said["id"])
    assert log.webhook in audit.detail
    assert log.parts.records.published == []


async def test_a_dry_run_counts_and_writes_nothing(log: Logged) -> None:
    """200 with each kind by type: what has arrived, is under way or is not wanted is left out."""
    await _history(log)
    audits = len(log.parts.control.audits)
    counted = await _recover(log, 200, dry_run=True)
    assert _counts(counted) == {
        "failed": {"order.paid": 1},
        "cancelled": {"order.paid": 1},
        "unrouted": {"invoice.paid": 1},
    }
    assert (counted["dry_run"], counted["gap"], counted["unrouted"]["count"]) == (True, None, 1)
    assert not log.parts.view.records[REPLAYS]
    assert len(log.parts.control.audits) == audits


async def test_only_since_then(log: Logged) -> None:
    """What came before is left alone."""
    await log.delivery(await log.event("old", at=AT_MS - HOUR_MS), end="failed", at=AT_MS - HOUR_MS)
    await log.delivery(await log.event("new", at=AT_MS), end="failed", at=AT_MS)
    assert (await _recover(log))["window"] == [{"partition": 0, "from": 1, "to": 2}]


async def test_other_webhooks_are_left_alone(api: Api, log: Logged) -> None:
    """Neither another webhook's deliveries nor what it missed."""
    other = (await api.post("/v1/tenants/acme/webhooks", {"url": URL, "events": ["*"]}))["id"]
    await log.delivery(event := await log.event(at=AT_MS), end="delivered", at=AT_MS)
    await log.delivery(event, webhook=other, end="failed", at=AT_MS)
    await log.event("only-other", "user.created", at=AT_MS)
    assert _counts(await _recover(log, 200, dry_run=True)) == {"failed": {}, "cancelled": {}, "unrouted": {}}


async def test_what_arrived_later_is_not_missed(log: Logged) -> None:
    """Over all deliveries of the event there, those of replays too: what was replayed has not failed."""
    event = await log.event(at=AT_MS)
    await log.delivery(event, end="failed", at=AT_MS)
    assert _counts(await _recover(log, 200, dry_run=True))["failed"] == {"order.paid": 1}
    (record,) = log.parts.records.held[DELIVERIES]
    assert record is not None
    await log.write(replace(log.seen(record), id="msg_r", replay="rpl_1"))
    assert _counts(await _recover(log, 200, dry_run=True))["failed"] == {}


async def test_a_filter_decides_on_what_was_never_routed(api: Api, log: Logged) -> None:
    """Events are matched as they would be now, content too."""
    path = f"/v1/tenants/acme/webhooks/{log.webhook}"
    await api.patch(path, {"filter": "data.n > `2`"})
    for n in (1, 3):
        await log.event(f"e{n}", data=f'{{"n":{n}}}', at=AT_MS)
    assert (await _recover(log, 200, dry_run=True))["unrouted"]["count"] == 1


async def test_a_second_one_waits_for_the_first(log: Logged) -> None:
    """409 with the first one's id: what becomes of its events is not known yet."""
    await _history(log)
    first = await _recover(log)
    assert first["id"] in (await _recover(log, 409))["detail"]
    await log.api.post(f"/v1/replays/{first['id']}/cancel", status=202)
    await _recover(log)


async def test_one_that_would_get_nothing_is_refused(api: Api, log: Logged) -> None:
    """409 while the webhook is not active; 404 for one that is not there; 422 for a time that is none, or too late."""
    await _history(log)
    path = f"/v1/tenants/acme/webhooks/{log.webhook}"
    assert list(faults(await _recover(log, 422, since="yesterday"))) == ["/since"]
    assert list(faults(await _recover(log, 422, since="2027-01-01T00:00:00Z"))) == ["/since"]
    await api.post(f"{path}x/recover", SINCE, 404)
    await api.post(f"{path}/deactivate", status=200)
    assert "pipeline webhooks activate" in (await _recover(log, 409))["detail"]
