"""Replays over REST: planned, ordered, looked at, stopped; what is refused, and in whose name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from pipeline.api import ordering, planning
from pipeline.api.app import create_app
from pipeline.api.log.asking import AskedLog
from pipeline.errors import Unreachable
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.replay import Ordered, Outcome, Progress, Reached, Replay, Span, State
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import ENDPOINT_STATE, EVENTS, REPLAY_PROGRESS, REPLAYS, SUBSCRIPTIONS
from pipeline.ports import Outgoing
from pipeline.store.log import DeliveryLog
from pipeline.store.replays import LATELY_MS
from pipeline.store.secrets import Vault
from tests.api.conftest import URL, Api, faults
from tests.api.logged import HOUR_MS, Logged, logged
from tests.api.parts import NOW_MS, Parts, memory_parts
from tests.authz.matrix import DOCUMENT
from tests.prepared import ADMIN_KEY

pytestmark = pytest.mark.replay

SINCE = {"from": "2026-01-01T00:30:00Z"}
AT_MS = NOW_MS + HOUR_MS
REPLAY = "/v1/replays"


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    """A tenant and a webhook for everything, and three events of an hour later."""
    made = await logged(api, parts)
    for n, type_ in enumerate(("order.paid", "order.paid", "invoice.sent")):
        await made.event(f"e{n}", type_, at=AT_MS + n)
    return made


async def start(log: Logged, status: int = 202, **body: Any) -> Any:
    return await log.api.post(REPLAY, {"tenant": "acme", **SINCE, **body}, status)


def order(log: Logged, replay: str) -> Replay:
    """As it was written."""
    found = log.parts.deps.replays.replay(replay)
    assert found is not None
    return found


def tell(log: Logged, replay: str, state: State = State.RUNNING, at: int = AT_MS, **more: Any) -> None:
    """As the replayer does."""
    told = Progress(replay, state, more.pop("partitions", ()), time_ms=at, **more)
    log.parts.view.put(REPLAY_PROGRESS, replay, log.parts.codec.encode_replay_progress(told))


async def admin_of(api: Api, tenant: str) -> Api:
    """A client with the key of that tenant's admin."""
    return api.using((await api.post("/v1/keys", {"role": "admin", "tenant": tenant}))["key"])


async def test_an_order_is_a_record(log: Logged) -> None:
    """What was asked for, as offsets; by whose key; the answer shows the same."""
    asked: dict[str, Any] = {
        "to": "2026-01-01T01:00:00.002Z",
        "types": ["order.*"],
        "webhooks": [log.webhook],
        "rate": 50.0,
    }
    said = await start(log, **asked, outcome="never_routed")
    held = order(log, said["id"])
    assert held == Replay(
        said["id"], "acme", Ordered.RUNNING, (Span(0, 0, 2),), ("order.*",), (log.webhook,), Outcome.NEVER_ROUTED,
        None, 50.0, "admin", held.created_ms, held.created_ms, from_ms=NOW_MS + HOUR_MS // 2, to_ms=AT_MS + 2,
    )  # fmt: skip
    assert (said["window"], said["from"]) == ([{"partition": 0, "from": 0, "to": 2}], "2026-01-01T00:30:00.000Z")
    assert (said["ordered"], said["state"], said["progress"], said["gap"]) == ("running", "queued", None, None)
    shown = await log.api.get(f"{REPLAY}/{said['id']}")
    assert {**shown, "gap": None} == {**said, "statuses": {}, "statuses_note": None}
    assert (await log.api.get(f"{REPLAY}?tenant=acme"))["items"] == [{k: v for k, v in said.items() if k != "gap"}]


async def test_a_plan_counts_and_writes_nothing(log: Logged) -> None:
    """By type and by webhook, how long it takes, what comes again; nothing is written, not even who asked."""
    event = await log.event("e3", at=AT_MS + 3)
    await log.delivery(event, end="delivered")
    audits, held = len(log.parts.control.audits), dict(log.parts.view.records[REPLAYS])
    said = await start(log, 200, dry_run=True, types=["order.*"], rate=2.0)
    assert (said["scanned"], said["events"], said["deliveries"], said["again"], said["unreadable"]) == (4, 3, 3, 1, 0)
    assert (said["by_type"], said["by_webhook"]) == ({"order.paid": 3}, {f"acme/{log.webhook}": 3})
    assert (said["oldest_at"], said["newest_at"]) == ("2026-01-01T01:00:00.000Z", "2026-01-01T01:00:00.003Z")
    assert (said["duration_s"], said["rate"], said["gap"]) == (1.5, 2.0, None)
    assert (len(log.parts.control.audits), log.parts.view.records[REPLAYS]) == (audits, held)


async def test_a_plan_is_told_while_it_is_made(log: Logged) -> None:
    """As an event stream: how far it is, at the end the plan."""
    events = await _streamed(log.api)
    assert [name for name, _ in events[-2:]] == ["progress", "plan"]
    assert set(events[0][1]) == {"scanned", "of", "seconds"}
    assert events[-1][1]["deliveries"] == 3


async def test_a_plan_that_cannot_be_made_is_told_as_a_problem() -> None:
    """Where the log is to say what became of events, and cannot: at the end of the stream, or as 503."""
    parts = memory_parts(log=AskedLog(_no_log))
    transport = httpx.ASGITransport(create_app(parts.deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        api = Api(client).using(ADMIN_KEY)
        await api.post(await api.tenant(), {"url": URL, "events": ["*"]})
        event = parts.codec.encode_event(Event("e1", "acme", "order.paid", AT_MS, "{}"))
        parts.records.put(Outgoing(EVENTS, b"acme", event), AT_MS)
        ((name, problem),) = [one for one in await _streamed(api, outcome="failed") if one[0] != "progress"]
        assert (name, problem["status"], "no disk" in problem["detail"]) == ("problem", 503, True)
        asked = {"tenant": "acme", **SINCE, "outcome": "failed", "dry_run": True}
        assert "no disk" in (await api.post(REPLAY, asked, 503))["detail"]
        assert (await api.post(REPLAY, {**asked, "outcome": "all"}, 200))["again"] is None
        shown = await api.get(f"{REPLAY}/{(await api.post(REPLAY, {'tenant': 'acme', **SINCE}, 202))['id']}")
        assert (shown["statuses"], "no disk" in shown["statuses_note"]) == (None, True)
    parts.deps.log.close()


def _no_log() -> DeliveryLog:
    raise Unreachable("there is no disk")


async def _streamed(api: Api, **body: Any) -> list[tuple[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    asked = {"tenant": "acme", **SINCE, "dry_run": True, **body}
    answer = await api.client.post(REPLAY, json=asked, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [part.splitlines() for part in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


async def test_plans_are_few_at_a_time(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with `Retry-After` while too many windows are read; an order needs no such room."""
    monkeypatch.setattr(planning, "PER_TENANT", 0)
    answer = await log.api.client.post(REPLAY, json={"tenant": "acme", **SINCE, "dry_run": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    headers = {"Accept": "text/event-stream"}
    answer = await log.api.client.post(REPLAY, json={"tenant": "acme", **SINCE, "dry_run": True}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
    await start(log)


async def test_answers_are_as_the_document_says(log: Logged) -> None:
    """A plan, an order, a replay that runs, a list, a recovery that is counted: each with all that may be in it."""
    log.parts.records.held[EVENTS][0] = None
    made = await start(log, target={"url": URL})
    tell(log, made["id"], partitions=(Reached(0, 1, 3, 0),), error="e", waiting="w", started_ms=AT_MS, ended_ms=AT_MS)
    recover = f"/v1/tenants/acme/webhooks/{log.webhook}/recover"
    answers = {
        "PlanOut": await start(log, 200, dry_run=True),
        "ReplayStarted": made,
        "ReplayDetail": await log.api.get(f"{REPLAY}/{made['id']}"),
        "ReplayOut": (await log.api.get(REPLAY))["items"][0],
        "Recovered": await log.api.post(recover, {"since": SINCE["from"], "dry_run": True}, 200),
    }
    for name, answer in answers.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(answer)] == []
    assert made["gap"] is not None
    plan = DOCUMENT["paths"][REPLAY]["post"]["responses"]["200"]["content"]
    assert set(plan) == {"application/json", "text/event-stream"}


async def test_offsets_in_place_of_times(log: Logged) -> None:
    """Those that are there; a partition that is not there is refused, and so is one that is given twice."""
    said = await start(log, 200, **{"from": None}, offsets=[{"partition": 0, "from": 1, "to": 9}], dry_run=True)
    assert (said["window"], said["deliveries"]) == ([{"partition": 0, "from": 1, "to": 3}], 2)
    strange = await start(log, 422, **{"from": None}, offsets=[{"partition": 7, "from": 0, "to": 1}])
    assert "its partitions are 0 to 0" in strange["detail"]
    twice = [{"partition": 0, "from": 0, "to": 1}, {"partition": 0, "from": 2, "to": 2}]
    assert list(faults(await start(log, 422, **{"from": None}, offsets=twice))) == [
        "/offsets/1/to",
        "/offsets/1/partition",
    ]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"from": None}, "/from", "or which `offsets`"),
        ({"offsets": [{"partition": 0, "from": 0, "to": 1}]}, "/from", "Give `from`, or `offsets`"),
        ({"from": "yesterday"}, "/from", "2026-01-31T12:00:00Z"),
        ({"to": "2026-01-01T00:30:00Z"}, "/to", "later than `from`"),
        ({"from": "1969-12-01T00:00:00Z", "to": "1969-12-31T23:59:59.999Z"}, "/to", "later than `from`"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "/from", "years 1 to 9999"),
        ({"to": "9999-12-31T23:59:59-01:00"}, "/to", "years 1 to 9999"),
        ({"from": "2027-01-01T00:00:00Z"}, "/from", "there are some from 2026-01-01T01:00:00.000Z to"),
        ({"types": ["no type"]}, "/types/0", "matches no event type"),
        ({"webhooks": ["wh_x"]}, "/webhooks/0", "pipeline webhooks list acme"),
        ({"tenant": None, "webhooks": ["wh_x"]}, "/tenant", "Name the tenant"),
        ({"tenant": None, "target": {"url": URL}}, "/tenant", "Name the tenant"),
        ({"target": {"url": URL}, "webhooks": ["wh_x"]}, "/webhooks", "two replays"),
        ({"target": {"url": URL}, "outcome": "failed"}, "/outcome", "leave the outcome"),
        ({"target": {"url": "https://10.0.0.1/"}}, "/target/url", "public"),
        ({"rate": 2_000.1}, "/rate", "less than or equal to 2000"),
        ({"rate": 1e-308}, "/rate", "greater than or equal to 0.01"),
        ({"outcome": "lost"}, "/outcome", "never_routed"),
        ({"more": 1}, "/more", "no such field"),
    ],
)
async def test_what_is_wrong_is_said_with_what_would_work(log: Logged, body: Any, field: str, words: str) -> None:
    """422 names the field; nothing is ordered."""
    problem = await start(log, 422, **body)
    (told,) = [error["message"] for error in problem["errors"] if error["field"] == field] or problem["errors"]
    assert words in told
    assert not log.parts.view.records[REPLAYS]


@pytest.mark.parametrize("end", [{"from": "0001-01-01T00:00:00+01:00"}, {"to": "9999-12-31T23:59:59-01:00"}])
async def test_a_time_that_cannot_be_written_is_refused(log: Logged, end: Any) -> None:
    """In UTC it lies outside of the years that there are: an order with it could not be shown, nor any list with it."""
    assert list(faults(await start(log, 422, **end))) == [f"/{next(iter(end))}"]
    assert faults(await log.api.post("/v1/dead-letters/redrive", end, 422)) == {f"/{next(iter(end))}": "time"}
    path = f"/v1/tenants/acme/webhooks/{log.webhook}/recover"
    assert faults(await log.api.post(path, {"since": next(iter(end.values()))}, 422)) == {"/since": "time"}
    assert (await log.api.get(REPLAY))["items"] == []
    last = await start(log, to="9999-12-31T23:59:59.9999999Z")
    assert last["to"].startswith("9999-12-31T23:59:59.99")


async def test_a_producers_time_may_be_any(log: Logged) -> None:
    """What a record says of its time is told, also where no calendar has it: in a plan, and in a refusal."""
    held = log.parts.records.held[EVENTS]
    last = held.pop()
    assert last is not None
    held.append(replace(last, timestamp_ms=2**60))
    assert (await start(log, 200, dry_run=True))["newest_at"] == f"@{2**60}"
    assert f"@{2**60}" in (await start(log, 422, to="2026-01-01T00:30:00.001Z"))["detail"]


async def test_a_type_of_a_closed_catalogue_is_named(api: Api) -> None:
    """What there is to choose from is told; for every tenant any product's type will do."""
    await api.tenant("inspectorio", "closed")
    problem = await api.post(REPLAY, {"tenant": "closed", **SINCE, "types": ["x.y"]}, 422)
    assert "choose from" in problem["detail"]
    assert list(faults(await api.post(REPLAY, {**SINCE, "types": ["x.y"]}, 422))) == ["/from"]
    assert list(faults(await api.post(REPLAY, {**SINCE, "types": ["not a type"]}, 422))) == ["/types/0"]


async def test_a_window_that_retention_has_taken(log: Logged) -> None:
    """All of it gone is refused with the oldest time that is left; a part is told beside plan and order."""
    records = log.parts.records
    records.held[EVENTS][:2] = [None, None]
    gone = await start(log, 422, to="2026-01-01T01:00:00.001Z")
    assert "Retention has taken all" in gone["detail"]
    assert "2026-01-01T01:00:00.002Z" in gone["detail"]
    for body, status in (({"dry_run": True}, 200), ({}, 202)):
        said = await start(log, status, **body)
        assert said["gap"]["partitions"] == [0]
        assert said["gap"]["oldest_at"] == "2026-01-01T01:00:00.002Z"
    offsets = [{"partition": 0, "from": 0, "to": 3}]
    assert (await start(log, 200, **{"from": None}, offsets=offsets, dry_run=True))["gap"]["records"] == 2


async def test_what_is_on_its_way_for_the_first_time_is_left_out(log: Logged) -> None:
    """An outcome ends the window where the router is; nothing left is refused as that."""
    log.parts.records.routed = 2
    assert (await start(log, 200, outcome="missed", dry_run=True))["window"][0]["to"] == 2
    assert (await start(log, 200, dry_run=True))["window"][0]["to"] == 3
    log.parts.records.routed = 0
    assert "on its way" in (await start(log, 422, outcome="missed"))["detail"]


async def test_a_webhook_that_gets_nothing_is_refused(log: Logged) -> None:
    """409 with the command that activates it, by hand or by failures switched off; 409 too for a suspended tenant."""
    path = f"/v1/tenants/acme/webhooks/{log.webhook}"
    activate = f"pipeline webhooks activate acme {log.webhook}"
    state = EndpointState("acme", log.webhook, disabled=True, reason="gone", generation=1)
    log.parts.view.put(ENDPOINT_STATE, f"acme/{log.webhook}", log.parts.codec.encode_endpoint_state(state))
    assert activate in (await start(log, 409, webhooks=[log.webhook]))["detail"]
    await log.api.post(f"{path}/deactivate", status=200)
    assert activate in (await start(log, 409, webhooks=[log.webhook]))["detail"]
    await log.api.post(f"{path}/activate", status=200)
    await start(log, webhooks=[log.webhook])


async def test_the_products_own_precondition_holds(api: Api) -> None:
    """409 in the product's words while the tenant's webhooks are suspended."""
    await api.tenant("bugbounty", "hunters", programs=0)
    problem = await api.post(REPLAY, {"tenant": "hunters", **SINCE}, 409)
    assert "/programs" in faults(problem) or "/plan" in faults(problem)


async def test_an_earlier_tenants_events_are_not_sent(log: Logged) -> None:
    """A tenant removed and made anew gets nothing of before, neither by times nor by offsets; nor sees its replays."""
    before = await start(log)
    await log.api.ask("DELETE", "/v1/tenants/acme")
    log.parts.clock[0] = AT_MS + 2
    await log.api.tenant()
    owner = await admin_of(log.api, "acme")
    assert "There are no records" in (await start(log, 422))["detail"]
    offsets = [{"partition": 0, "from": 0, "to": 3}]
    assert "There are no records" in (await start(log, 422, **{"from": None}, offsets=offsets))["detail"]
    await log.event("new", at=AT_MS + HOUR_MS)
    assert (await start(log, 200, dry_run=True))["window"] == [{"partition": 0, "from": 3, "to": 4}]
    await owner.get(f"{REPLAY}/{before['id']}", 404)
    assert (await owner.get(REPLAY))["items"] == []


async def test_a_removed_tenant_ends_its_replays(log: Logged) -> None:
    """What may run is told to stop, what is over is forgotten; an endpoint of a replay is no webhook in the count."""
    over, running = await start(log), await start(log, target={"url": URL})
    tell(log, over["id"], State.DONE)
    said = await log.api.ask("DELETE", "/v1/tenants/acme")
    assert said["webhooks"] == 1
    assert log.parts.deps.replays.replay(over["id"]) is None
    held = order(log, running["id"])
    assert (held.ordered, held.target_url) == (Ordered.CANCELLED, None)
    assert not log.parts.view.records[SUBSCRIPTIONS]


async def test_an_endpoint_that_went_before_its_tenant_is_not_counted(log: Logged) -> None:
    """A cancelled replay's endpoint is gone: webhooks that went with the tenant are those that were there."""
    said = await start(log, target={"url": URL})
    await log.api.post(f"{REPLAY}/{said['id']}/cancel", status=202)
    assert (await log.api.ask("DELETE", "/v1/tenants/acme"))["webhooks"] == 1


async def test_pause_resume_cancel(log: Logged) -> None:
    """Each is a newer record of the order, is in the audit record, and is the same when it is asked twice."""
    said = await start(log)
    path = f"{REPLAY}/{said['id']}"
    for verb, ordered in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert (await log.api.post(f"{path}/{verb}", status=202))["ordered"] == ordered
        assert order(log, said["id"]).ordered == ordered
    assert [(one.action, one.target, one.tenant) for one in log.parts.control.audits[-4:]] == [
        (name, said["id"], "acme") for name in ("createReplay", "pauseReplay", "resumeReplay", "cancelReplay")
    ]
    assert "cancelled" in (await log.api.post(f"{path}/resume", status=409))["detail"]
    assert (await log.api.post(f"{path}/cancel", status=202))["ordered"] == "cancelled"


async def test_one_that_has_ended_goes_not_on(log: Logged) -> None:
    """409 for pause and resume; what it has written and what is not sent yet may still be cancelled."""
    said = await start(log)
    tell(log, said["id"], State.DONE)
    for verb in ("pause",):
        assert "it is done" in (await log.api.post(f"{REPLAY}/{said['id']}/{verb}", status=409))["detail"]
    shown = await log.api.post(f"{REPLAY}/{said['id']}/cancel", status=202)
    assert (shown["state"], shown["ordered"]) == ("done", "cancelled")


async def test_what_is_over_is_found_out_once(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every order asks it of all that there ever were: it must cost nothing by then."""
    said, replays = await start(log), log.parts.deps.replays
    assert not replays.is_over(order(log, said["id"]))
    tell(log, said["id"], State.DONE)
    assert replays.is_over(order(log, said["id"]))
    monkeypatch.setattr(Codec, "decode_replay_progress", None)
    assert replays.is_over(order(log, said["id"]))


async def test_how_far_it_is(log: Logged) -> None:
    """By partition, over all shares of its webhooks; pace and time left from what was said in the last seconds."""
    said = await start(log)
    window = Span(0, 0, 3)
    halves = (Reached(0, 3, 3, 0), Reached(0, 0, 3, 1))
    tell(log, said["id"], partitions=(Reached(0, 0, 3),), started_ms=AT_MS)
    assert order(log, said["id"]).window == (window,)
    first = (await log.api.get(f"{REPLAY}/{said['id']}"))["progress"]
    assert (first["reached"], first["records_per_s"], first["eta_s"]) == (0.0, None, None)
    tell(log, said["id"], at=AT_MS + 2_000, partitions=halves, events=30, deliveries=20, started_ms=AT_MS)
    shown = await log.api.get(f"{REPLAY}/{said['id']}")
    progress = shown["progress"]
    assert shown["state"] == "running"
    assert progress["partitions"] == [{"partition": 0, "from": 0, "next": 0, "to": 3, "reached": 0.5}]
    assert (progress["reached"], progress["records_per_s"], progress["deliveries_per_s"]) == (0.5, 15.0, 10.0)
    assert (progress["eta_s"], progress["started_at"]) == (2.0, "2026-01-01T01:00:00.000Z")
    late = AT_MS + 2_000 + LATELY_MS
    tell(log, said["id"], at=late, partitions=halves, events=45, deliveries=35)
    assert (await log.api.get(f"{REPLAY}/{said['id']}"))["progress"]["records_per_s"] == 1.0
    tell(log, said["id"], State.FAILED, late + 1_000, partitions=halves, events=60, error="why")
    ended = await log.api.get(f"{REPLAY}/{said['id']}")
    assert (ended["state"], ended["progress"]["error"], ended["progress"]["records_per_s"]) == ("failed", "why", None)


async def test_what_became_of_its_deliveries(log: Logged) -> None:
    """By status, from the delivery log; while that cannot be asked, why not."""
    said = await start(log)
    held = await log.delivery(await log.event("e9"))
    seen = log.seen(log.parts.records.held["deliveries"][-1])  # type: ignore[arg-type]
    await log.write(replace(seen, id="msg_a", replay=said["id"]), replace(seen, id="msg_b", replay=said["id"]))
    await log.attempt(replace(held, id="msg_b"), "delivered")
    shown = await log.api.get(f"{REPLAY}/{said['id']}")
    assert shown["statuses"] == {"pending": 1, "delivered": 1}


async def test_too_many_and_two_that_ask_the_same(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """409: what became of events is not known while another replay sends them; nor may too many run. All may twice."""
    other = (await log.api.post("/v1/tenants/acme/webhooks", {"url": URL, "events": ["*"]}))["id"]
    first = await start(log, outcome="missed", webhooks=[log.webhook])
    assert first["id"] in (await start(log, 409, outcome="failed"))["detail"]
    await start(log, outcome="missed", webhooks=[other])
    await start(log, webhooks=[log.webhook])
    tell(log, first["id"], State.DONE)
    await start(log, outcome="failed", webhooks=[log.webhook])
    monkeypatch.setattr(ordering, "MOST_OF_TENANT", 3)
    assert "pipeline replays list" in (await start(log, 409))["detail"]


async def test_a_url_for_one_replay(log: Logged) -> None:
    """Its secret is shown once; it is a webhook that nobody sees, gets or may change, and goes with the cancelling."""
    planned = await start(log, 200, target={"url": URL}, dry_run=True)
    assert planned["deliveries"] == 3
    assert len(log.parts.view.records[SUBSCRIPTIONS]) == 1
    said = await start(log, target={"url": URL})
    hidden = said["target"]["webhook"]
    secret = said["target"]["auth"]["secret"]
    assert (secret[:6], "…" in secret) == ("whsec_", False)
    assert said["webhooks"] == [hidden]
    shown = (await log.api.get(f"{REPLAY}/{said['id']}"))["target"]
    assert (shown["url"], "…" in shown["auth"]["secret"]) == (URL, True)
    held = log.parts.deps.directory.webhook("acme", hidden)
    assert held is not None
    assert (held.replay, held.url, held.active) == (said["id"], URL, True)
    path = f"/v1/tenants/acme/webhooks/{hidden}"
    assert [one["id"] for one in (await log.api.get("/v1/tenants/acme/webhooks"))["items"]] == [log.webhook]
    await log.api.get(path, 404)
    await log.api.patch(path, {"url": URL}, 404)
    await log.api.ask("DELETE", path, None, 404)
    assert list(faults(await start(log, 422, webhooks=[hidden]))) == ["/webhooks/0"]
    await log.delivery(await log.event("e9", at=AT_MS), webhook=hidden)
    why = (await log.api.get("/v1/tenants/acme/events/e9/explain"))["items"]
    assert [(one["webhook"], one["reason"]) for one in why] == [(log.webhook, "unknown"), (hidden, "delivery")]
    cancelled = await log.api.post(f"{REPLAY}/{said['id']}/cancel", status=202)
    assert cancelled["target"] == {"url": URL, "webhook": hidden, "auth": None}
    assert log.parts.deps.directory.webhook("acme", hidden) is None


@pytest.mark.parametrize("profile", ["inspectorio", "qase", "monitorqa", "monithq"])
async def test_a_url_of_any_product(api: Api, parts: Parts, profile: str) -> None:
    """What the product asks of a webhook besides is filled in; how it authenticates is the product's."""
    more = {"plan": "business", "programs": 1}
    await api.tenant(profile, "acme", **more)
    log = Logged(api, parts, "")
    await log.event(at=AT_MS)
    said = await start(log, target={"url": URL})
    assert (await api.get(f"{REPLAY}/{said['id']}"))["target"]["auth"]["type"] == said["target"]["auth"]["type"]


async def test_secrets_that_cannot_be_opened_hide_no_replay(log: Logged) -> None:
    """A tenant whose key was sealed by one that is not known any more: its replays are listed, and all others."""
    said = await start(log, target={"url": URL})
    stranger = replace(log.parts.deps, vault=Vault((("k2", bytes(32)),)), metrics=CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(stranger)), base_url="http://api") as client:
        listed = await client.get(REPLAY, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert [(one["id"], one["target"]["auth"]) for one in listed.json()["items"]] == [
        (said["id"], {"type": "standard_webhooks"})
    ]


async def test_an_old_endpoint_is_swept(log: Logged) -> None:
    """Seven days after its replay has ended it goes, when the tenant's next one is made; not before."""
    said = await start(log, target={"url": URL})
    paths = log.parts.view.records[SUBSCRIPTIONS]
    tell(log, said["id"], State.DONE, ended_ms=AT_MS)
    log.parts.clock[0] = AT_MS + 7 * 24 * HOUR_MS - 1_000
    await start(log)
    assert len(paths) == 2
    log.parts.clock[0] += 2_000
    await start(log)
    assert list(paths) == [f"acme/{log.webhook}"]
    assert (await log.api.get(f"{REPLAY}/{said['id']}"))["target"]["auth"] is None


async def test_whose_events(log: Logged) -> None:
    """A tenant's admin: its own, also without naming it, and another's is as not there; the platform's: all."""
    await log.api.tenant(tenant="other")
    own, foreign = await admin_of(log.api, "acme"), await admin_of(log.api, "other")
    mine = await own.post(REPLAY, SINCE, 202)
    everybodys = await log.api.post(REPLAY, SINCE, 202)
    assert (mine["tenant"], everybodys["tenant"], mine["by"] == everybodys["by"]) == ("acme", None, False)
    await foreign.post(REPLAY, {"tenant": "acme", **SINCE}, 404)
    await foreign.get(f"{REPLAY}?tenant=acme", 404)
    for verb in ("pause", "resume", "cancel"):
        for client, replay in ((foreign, mine["id"]), (own, everybodys["id"])):
            await client.post(f"{REPLAY}/{replay}/{verb}", status=404)
            await client.get(f"{REPLAY}/{replay}", 404)
    assert [one["id"] for one in (await own.get(REPLAY))["items"]] == [mine["id"]]
    assert (await foreign.get(REPLAY))["items"] == []
    assert [one["id"] for one in (await log.api.get(REPLAY))["items"]] == [everybodys["id"], mine["id"]]
    page = await log.api.get(f"{REPLAY}?limit=1")
    assert [one["id"] for one in (await log.api.get(f"{REPLAY}?cursor={page['next']}"))["items"]] == [mine["id"]]


async def test_a_plan_of_one_tenant_never_counts_anothers_events(log: Logged) -> None:
    """By offsets too: the events of others are passed over."""
    await log.api.tenant(tenant="other")
    hooks = await log.api.post("/v1/tenants/other/webhooks", {"url": URL, "events": ["*"]})
    foreign = await admin_of(log.api, "other")
    assert (await foreign.post(REPLAY, {**SINCE, "dry_run": True}, 200))["by_webhook"] == {}
    said = await log.api.post(REPLAY, {**SINCE, "dry_run": True}, 200)
    assert f"other/{hooks['id']}" not in said["by_webhook"]
