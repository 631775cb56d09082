"""The delivery log over REST, on a real database."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import SettingsError, Unreachable
from pipeline.flow.cancels import Cancel
from pipeline.kafka.topics import DELIVERIES, EVENTS
from pipeline.store.log import DeliveryLog
from pipeline.workers.carriage import of_headers
from tests.api.conftest import Api, faults
from tests.api.logged import HOUR_MS, Logged, logged
from tests.api.parts import NOW_MS, Parts

D = "/v1/tenants/acme/deliveries"
ENDED = ("delivered", "failed", "cancelled")


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    return await logged(api, parts)


async def test_an_empty_log_is_empty(api: Api, log: Logged) -> None:
    """A tenant without deliveries has an empty list; what is not there, or is a foreign tenant's, is 404."""
    assert await api.get(D) == {"items": [], "next": None}
    await api.get(f"{D}/msg_1", 404)
    await api.get("/v1/tenants/nobody/deliveries", 404)
    await api.tenant(tenant="other")
    held = await log.delivery(await log.event())
    await api.get(f"/v1/tenants/other/deliveries/{held.id}", 404)
    for what in ("redeliver", "cancel"):
        await api.post(f"/v1/tenants/other/deliveries/{held.id}/{what}", status=404)


async def test_the_list_pages_and_filters(api: Api, log: Logged) -> None:
    """Newest first, by cursor; webhook, status, type and time narrow it."""
    made = [
        await log.delivery(await log.event(f"e{n}", type_, at=NOW_MS + n), end=end, at=NOW_MS + n)
        for n, (type_, end) in enumerate([("a", "failed"), ("b", "delivered"), ("a", ""), ("a", "retrying")])
    ]
    first = await api.get(D, params={"limit": 3})
    rest = await api.get(D, params={"limit": 3, "cursor": first["next"]})
    assert [one["id"] for one in first["items"] + rest["items"]] == [one.id for one in reversed(made)]
    assert rest["next"] is None
    assert [one["status"] for one in first["items"]] == ["retrying", "pending", "delivered"]

    async def found(**wanted: Any) -> list[str]:
        return [one["event"] for one in (await api.get(D, params=wanted))["items"]]

    assert await found(type="a") == ["e3", "e2", "e0"]
    assert await found(status="failed") == ["e0"]
    assert await found(status=["failed", "pending"]) == ["e2", "e0"]
    assert await found(webhook="wh_other") == []
    assert await found(webhook=log.webhook, type="b") == ["e1"]
    assert await found(**{"from": "2026-01-01T00:00:00.001Z", "to": "2026-01-01T00:00:00.003Z"}) == ["e2", "e1"]
    assert await found(replay="rpl_1") == []
    again = await log.delivery(await log.event("e1", "b"), at=NOW_MS + 9, replay="rpl_1")
    assert [one["id"] for one in (await api.get(D, params={"replay": "rpl_1"}))["items"]] == [again.id]
    assert await found(replay="rpl_1", status="failed") == []


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"from": "yesterday"}, "/from"),
        ({"to": "2026-01-01"}, "/to"),
        ({"status": "lost"}, "/status/0"),
        ({"webhook": "a b"}, "/webhook"),
        ({"type": "a\0"}, "/type"),
        ({"limit": 201}, "/limit"),
        ({"cursor": "nonsense"}, "/cursor"),
        ({"cursor": "MTA6AA"}, "/cursor"),
        ({"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTpa"}, "/cursor"),
    ],
)
async def test_a_filter_that_cannot_be_read_is_named(api: Api, log: Logged, wanted: Any, field: str) -> None:
    """422 with the parameter's name, never the database's own words."""
    assert log.webhook
    assert list(faults(await api.get(D, 422, params=wanted))) == [field]


async def test_a_delivery_is_shown_with_its_attempts_and_body(api: Api, log: Logged) -> None:
    """Attempts oldest first with masked headers, the body as it was sent, and where all of it lies."""
    held = await log.delivery(await log.event())
    await log.attempt(held, "retrying", number=1)
    await log.attempt(held, "failed", number=2, at=NOW_MS + 60_000)
    shown = await api.get(f"{D}/{held.id}")
    assert (shown["id"], shown["webhook"], shown["event"], shown["status"]) == (held.id, log.webhook, "e1", "failed")
    assert (shown["attempt_count"], shown["last_verdict"], shown["last_status_code"]) == (2, "rejected", 400)
    assert [(one["attempt"], one["next"]["kind"]) for one in shown["attempts"]] == [(1, "retry"), (2, "dead")]
    assert {"name": "webhook-signature", "value": "***"} in shown["attempts"][0]["request_headers"]
    assert shown["attempts"][1]["response_body"] == "said �"
    assert (shown["body"], shown["body_note"]) == ('{"body":1}', None)
    assert shown["record"] == {"topic": DELIVERIES, "partition": 0, "offset": 0}
    assert shown["origin"] == {"topic": EVENTS, "partition": 0, "offset": 0}
    assert shown["subscriptions_offset"] == 11


async def test_a_body_that_is_gone_is_said_to_be(api: Api, log: Logged) -> None:
    """What retention has taken is null with a sentence; what Kafka does not give now, likewise."""
    held = await log.delivery(await log.event())
    log.parts.records.down = True
    assert "Kafka" in (await api.get(f"{D}/{held.id}"))["body_note"]
    log.parts.records.down = False
    log.parts.records.trim(DELIVERIES)
    shown = await api.get(f"{D}/{held.id}")
    assert shown["body"] is None
    assert "retention has taken it" in shown["body_note"]


@pytest.mark.parametrize("end", ENDED)
async def test_what_has_ended_is_sent_again(api: Api, log: Logged, end: str) -> None:
    """The same id, key and bytes, from the first attempt on, in a round of its own that is later than those before."""
    held = await log.delivery(await log.event(), end=end)
    said = await api.post(f"{D}/{held.id}/redeliver", status=202)
    (out,) = log.parts.records.published
    assert (out.topic, out.key) == (DELIVERIES, held.path.encode())
    assert log.parts.codec.delivery(out.value) == held
    carriage = of_headers(out.headers)
    assert (carriage.round, carriage.hop, carriage.wait_ms) == (said["round"], 0, 0)
    assert said["round"] > ""
    await log.recorded()
    assert await log.status(held) == "pending"
    await log.attempt(held, "failed", said["round"])
    again = await api.post(f"{D}/{held.id}/redeliver", status=202)
    assert again["round"] > said["round"]
    assert [one.action for one in log.parts.control.audits[-2:]] == ["redeliver", "redeliver"]


@pytest.mark.parametrize("end", ["", "retrying"])
async def test_what_has_not_ended_is_not_sent_again(api: Api, log: Logged, end: str) -> None:
    """409, and the sentence says how it stands."""
    held = await log.delivery(await log.event(), end=end)
    said = await api.post(f"{D}/{held.id}/redeliver", status=409)
    assert (end or "pending") in said["detail"]
    assert log.parts.records.published == []


async def test_of_two_at_the_same_moment_one_passes(api: Api, log: Logged) -> None:
    """One is sent, the other refused; and so is a third before the log knows of the first."""
    held = await log.delivery(await log.event(), end="failed")
    path = f"{D}/{held.id}/redeliver"
    answers = await asyncio.gather(*(api.client.post(path) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409]
    assert "already" in (await api.post(path, status=409))["detail"]
    assert len(log.parts.records.published) == 1


async def test_what_kafka_did_not_confirm_may_be_sent_again(api: Api, log: Logged) -> None:
    """503, and nothing is left in the way of another try."""
    held = await log.delivery(await log.event(), end="failed")
    path = f"{D}/{held.id}/redeliver"
    log.parts.records.down = True
    await api.post(path, status=503)
    assert log.parts.records.published == []
    log.parts.records.down = False
    await api.post(path, status=202)
    assert len(log.parts.records.published) == 1


async def test_a_failed_writing_is_taken_back(api: Api, log: Logged) -> None:
    """When the record itself is not confirmed, the delivery does not count as under way."""
    held = await log.delivery(await log.event(), end="failed")
    records = log.parts.records
    read = records.read

    async def read_and_go_down(topic: str, partition: int, offsets: Any) -> Any:
        found = await read(topic, partition, offsets)
        records.down = True
        return found

    records.read = read_and_go_down  # type: ignore[method-assign]
    await api.post(f"{D}/{held.id}/redeliver", status=503)
    assert log.parts.deps.issued.newer(held.id, "") is None


async def test_without_a_body_there_is_nothing_to_send(api: Api, log: Logged) -> None:
    """409 with the reason when retention has taken it."""
    held = await log.delivery(await log.event(), end="failed")
    log.parts.records.trim(DELIVERIES)
    assert "retention" in (await api.post(f"{D}/{held.id}/redeliver", status=409))["detail"]


async def test_what_would_only_be_skipped_is_refused(api: Api, log: Logged) -> None:
    """409 while the webhook is not active, with its status; and when it is gone."""
    held = await log.delivery(await log.event(), end="cancelled")
    hook = f"/v1/tenants/acme/webhooks/{log.webhook}"
    await api.post(f"{hook}/deactivate", status=200)
    assert "inactive" in (await api.post(f"{D}/{held.id}/redeliver", status=409))["detail"]
    await api.post(f"{hook}/activate", status=200)
    await api.ask("DELETE", hook, status=204)
    assert "gone" in (await api.post(f"{D}/{held.id}/redeliver", status=409))["detail"]


async def test_a_delivery_is_cancelled(api: Api, log: Logged) -> None:
    """The round in force is stopped, by whom is written down, and it is said when it ends."""
    held = await log.delivery(await log.event())
    await log.attempt(held, "retrying", at=NOW_MS + HOUR_MS)
    said = await api.post(f"{D}/{held.id}/cancel", status=202)
    assert said["ends_by"] == "2026-01-01T01:01:00.012Z"
    assert said["ends_by"] in said["message"]
    found = log.parts.deps.cancels.of(held.id)
    assert found is not None
    assert replace(found, time_ms=0) == Cancel(held.id, "", "acme", "admin", 0)
    assert log.parts.control.audits[-1].action == "cancelDelivery"
    await api.post(f"{D}/{held.id}/cancel", status=202)


async def test_one_whose_turn_has_not_come_ends_within_the_longest_sleep(api: Api, log: Logged) -> None:
    """A delivery that waits for no retry is looked at within an hour."""
    held = await log.delivery(await log.event())
    assert (await api.post(f"{D}/{held.id}/cancel", status=202))["ends_by"].startswith("2026-01-01T01:00:00")


@pytest.mark.parametrize("end", ENDED)
async def test_what_has_ended_cannot_be_cancelled(api: Api, log: Logged, end: str) -> None:
    """409, and the sentence says how it ended."""
    held = await log.delivery(await log.event(), end=end)
    assert end in (await api.post(f"{D}/{held.id}/cancel", status=409))["detail"]


async def test_a_redelivery_can_be_cancelled_before_the_log_knows_of_it(api: Api, log: Logged) -> None:
    """The round that is cancelled is the one that was just given; a further redelivery forgets the cancelling."""
    held = await log.delivery(await log.event(), end="failed")
    given = await api.post(f"{D}/{held.id}/redeliver", status=202)
    assert (await api.post(f"{D}/{held.id}/cancel", status=202))["round"] == given["round"]
    assert log.parts.deps.cancels(held.id, given["round"])
    await log.recorded()
    await log.attempt(held, "cancelled", given["round"])
    await api.post(f"{D}/{held.id}/redeliver", status=202)
    assert log.parts.deps.cancels.of(held.id) is None


@pytest.mark.parametrize("error", [Unreachable("no answer from it"), SettingsError("no such database")])
async def test_without_its_database_all_else_is_served(api: Api, parts: Parts, error: Exception) -> None:
    """The log's operations answer 503 with the reason until it is there; the others need none of it."""
    log, found = parts.deps.log, parts.deps.log._open

    def failing() -> DeliveryLog:
        raise error

    log._open = failing
    await api.tenant()
    for _ in range(2):
        assert str(error) in (await api.get(D, 503))["detail"]
        assert str(error) in (await api.get("/readyz"))["warnings"][0]
    log._not_before, log._open = 0.0, found
    await api.get(D)
    assert (await api.get("/readyz"))["warnings"] == []


async def test_a_database_that_goes_down_is_told(api: Api, log: Logged) -> None:
    """503 while it does not answer, though it did before; then it goes on by itself."""

    def failing(*_: Any, **__: Any) -> Any:
        raise Unreachable("no answer any more")

    held = await log.parts.deps.log.ask(lambda one: one)
    held.deliveries = failing  # type: ignore[method-assign]
    assert "any more" in (await api.get(D, 503))["detail"]
    assert "any more" in (await api.get("/readyz"))["warnings"][0]
    del held.deliveries
    await api.get(D)


async def test_a_log_that_does_not_answer_is_told(parts: Parts) -> None:
    """After the deadline it is 503, and the request hangs no longer."""
    gate = threading.Event()
    await parts.deps.log.ask(lambda _: None)
    parts.deps.log._deadline_s = 0.05
    with pytest.raises(Unreachable, match="in time"):
        await parts.deps.log.ask(lambda _: gate.wait(10))
    gate.set()
