from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.api import validation as validating
from pipeline.api.events import MAX_BATCH
from pipeline.api.transport import MAX_BODY
from pipeline.flow.event import DATA_BYTES
from pipeline.profiles import PROFILES
from tests.api.conftest import Api, faults
from tests.api.parts import Parts

EVENTS = "/v1/tenants/acme/events"
EVENT = {"id": "e1", "type": "invoice.paid", "data": {"id": 7}}


@pytest.fixture(autouse=True)
async def _tenant(api: Api) -> None:
    await api.tenant()


async def test_an_event_is_stored_as_it_was_sent(api: Api, parts: Parts) -> None:
    """202 gives the id, and what is stored has every field."""
    whole = {**EVENT, "time": "2026-01-31T12:00:00.250+02:00", "actor": "u1", "subject": "s", "source": "billing"}
    assert await api.post(EVENTS, whole, 202) == {"id": "e1"}
    (event,) = parts.ingest.events
    assert (event.id, event.tenant, event.type) == ("e1", "acme", "invoice.paid")
    assert (event.actor, event.subject, event.source) == ("u1", "s", "billing")
    assert event.time_ms == 1_769_853_600_250


async def test_id_and_time_are_made_up_when_missing(api: Api, parts: Parts) -> None:
    """An event without an id gets one of its own; one without a time happened now."""
    first, second = [await api.post(EVENTS, {"type": "a", "data": None}, 202) for _ in range(2)]
    assert first["id"] != second["id"]
    assert [event.id for event in parts.ingest.events] == [first["id"], second["id"]]
    assert parts.ingest.events[0].time_ms >= parts.clock[0]


@pytest.mark.parametrize(
    "data",
    [
        '{"b": 1.0, "a":1e2,\n "b": 12345678901234567890123}',
        '"\\u00e9 \\"}, \\\\"',
        "[ ]",
        "-0.0",
        "null",
        '{"data": {"data": "}"}, "events": [1]}',
    ],
)
async def test_data_is_kept_to_the_letter(api: Api, parts: Parts, data: str) -> None:
    """Digits, order, spaces and escapes of `data` reach Kafka as they were written, alone and in a batch."""
    one = f' {{ "data" : {data} , "type":"a", "id" : "1" }} '
    await api.post(EVENTS, one.encode(), 202)
    await api.post(EVENTS, f'{{"events" : [ {one} , {one.replace("1", "2", 1)}]}}'.encode(), 202)
    assert [event.data for event in parts.ingest.events][:2] == [data, data]
    assert len(parts.ingest.events) == 3


async def test_a_repeated_name_counts_as_its_last(api: Api, parts: Parts) -> None:
    """Of a field that is given twice the last one counts, for data as for all others."""
    await api.post(EVENTS, b'{"type":"a","data":1,"id":"x","data":2,"id":"y"}', 202)
    assert [(event.id, event.data) for event in parts.ingest.events] == [("y", "2")]


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"type": "in voice"}, "/type", "unknown_type"),
        ({"type": ""}, "/type", "invalid"),
        ({"type": 7}, "/type", "string_type"),
        ({"id": "é" * 65}, "/id", "invalid"),
        ({"id": ""}, "/id", "string_too_short"),
        ({"time": "yesterday"}, "/time", "time"),
        ({"time": "2026-01-31T12:00:00"}, "/time", "time"),
        ({"time": "2026-01-31"}, "/time", "time"),
        ({"time": "1969-12-31T23:59:59Z"}, "/time", "invalid"),
        ({"tenant": "other"}, "/tenant", "unknown"),
        ({"source": "x" * 1025}, "/source", "string_too_long"),
    ],
)
async def test_an_event_that_breaks_a_rule_is_refused(
    api: Api, parts: Parts, change: dict[str, Any], field: str, rule: str
) -> None:
    """422 names the field and the rule, and nothing is stored."""
    assert faults(await api.post(EVENTS, {**EVENT, **change}, 422)) == {field: rule}
    assert parts.ingest.events == []


async def test_a_products_own_rule_is_kept_at_the_door(api: Api) -> None:
    """What a product could not send is refused when it comes in: an actor that is no integer, data of another shape."""
    await api.tenant("qase", "q")
    body: dict[str, Any] = {"type": "case.created", "data": {}}
    assert faults(await api.post("/v1/tenants/q/events", {**body, "actor": "ann"}, 422)) == {"/actor": "invalid"}
    await api.post("/v1/tenants/q/events", {**body, "actor": 40}, 202)
    await api.tenant("inspectorio", "i")
    body = {"type": "report.created", "data": {"resourceId": "7", "path": "/"}}
    assert faults(await api.post("/v1/tenants/i/events", body, 422)) == {"/data": "invalid"}


@pytest.mark.parametrize(("length", "status"), [(DATA_BYTES, 202), (DATA_BYTES + 1, 413)])
async def test_data_has_a_limit_to_the_byte(api: Api, length: int, status: int) -> None:
    """262,144 bytes of data are taken, one more is 413 with the limit in the sentence; bytes count, not characters."""
    text = "é" * ((length - 2) // 2) + "x" * (length % 2)
    body = f'{{"type":"a","data":"{text}"}}'.encode()
    problem = await api.post(EVENTS, body, status)
    if status == 413:
        assert "262144" in problem["detail"]
        assert faults(problem) == {"/data": "max_bytes"}


async def test_a_batch_is_stored_in_order(api: Api, parts: Parts) -> None:
    """A whole batch is 202, with an item for each event."""
    answer = await api.post(EVENTS, {"events": [{**EVENT, "id": f"e{n}"} for n in range(MAX_BATCH)]}, 202)
    assert [item["id"] for item in answer["items"]] == [f"e{n}" for n in range(MAX_BATCH)]
    assert {item["status"] for item in answer["items"]} == {202}
    assert [event.id for event in parts.ingest.events] == [f"e{n}" for n in range(MAX_BATCH)]


async def test_of_a_batch_the_good_ones_are_taken(api: Api, parts: Parts) -> None:
    """207 says for each event what became of it; what was refused is named by its place in the batch."""
    parts.ingest.lost.add("lost")
    large = {**EVENT, "id": "large", "data": "x" * DATA_BYTES}
    sent = [EVENT, {**EVENT, "id": "bad", "type": "a b"}, 7, large, {**EVENT, "id": "lost"}]
    items = (await api.post(EVENTS, {"events": sent}, 207))["items"]
    assert [item["status"] for item in items] == [202, 422, 422, 413, 503]
    assert [item["id"] for item in items] == ["e1", "bad", None, "large", "lost"]
    assert [item["errors"][0]["field"] for item in items if "errors" in item] == [
        "/events/1/type",
        "/events/2",
        "/events/3/data",
    ]
    assert [event.id for event in parts.ingest.events] == ["e1"]


@pytest.mark.parametrize("events", [[], [EVENT] * (MAX_BATCH + 1), {}, None, "x"])
async def test_a_batch_is_a_list_of_up_to_a_thousand(api: Api, parts: Parts, events: Any) -> None:
    """An empty list, a longer one, or none at all is refused as a whole."""
    assert faults(await api.post(EVENTS, {"events": events}, 422)) == {"/events": "batch"}
    assert parts.ingest.events == []


async def test_a_batch_holds_nothing_else(api: Api, parts: Parts) -> None:
    """Beside a batch an event has no fields, and beside an event there is no batch."""
    assert set(faults(await api.post(EVENTS, {"events": [EVENT], "type": "a"}, 422))) == {"/events"}
    assert parts.ingest.events == []


async def test_without_the_brokers_acknowledgement_it_is_503(api: Api, parts: Parts) -> None:
    """202 comes only after the broker's acknowledgement; without it 503 means: unknown, send it again."""
    parts.ingest.lost |= {"e1", "e2"}
    await api.post(EVENTS, EVENT, 503)
    await api.post(EVENTS, {"events": [EVENT, {**EVENT, "id": "e2"}]}, 503)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"type":"a","data":NaN}', b"\xff", b'{"data":' + b"[" * 5000]
)
async def test_an_event_that_cannot_be_read_is_400(api: Api, parts: Parts, body: bytes) -> None:
    """What is no strict JSON is refused as unreadable."""
    await api.post(EVENTS, body, 400)
    assert parts.ingest.events == []


async def test_deep_nesting_is_refused_or_kept_whole(api: Api, parts: Parts) -> None:
    """However deep data is nested, the answer is 202 with the data whole, or 400: never a fault."""
    for depth in (10, 900, 990, 1000, 1020, 1100):
        text = "[" * depth + "]" * depth
        answer = await api.client.post(EVENTS, content=f'{{"type":"a","data":{text}}}')
        assert answer.status_code in (202, 400), depth
        if answer.status_code == 202:
            assert parts.ingest.events[-1].data == text


async def test_an_unknown_tenant_takes_no_events(api: Api, parts: Parts) -> None:
    """Events of a tenant that is not there are 404."""
    await api.post("/v1/tenants/nobody/events", EVENT, 404)
    assert parts.ingest.events == []


async def test_text_outside_ascii_is_kept(api: Api, parts: Parts) -> None:
    """Text of any script reaches Kafka as it was written, escaped or not."""
    body = json.dumps({**EVENT, "id": "ключ", "data": "数据"}, ensure_ascii=False).encode()
    await api.post(EVENTS, body, 202)
    assert (parts.ingest.events[0].id, parts.ingest.events[0].data) == ("ключ", '"数据"')


async def test_a_batch_may_be_as_large_as_a_body(api: Api, parts: Parts) -> None:
    """A batch of 5 MiB is taken, its events at their own limit among them; one byte more is 413 and names the limit."""
    one = '{"type":"a","data":"' + "x" * (DATA_BYTES - 2) + '"}'
    batch = '{"events":[' + ",".join([one] * 19) + "]}"
    assert len(batch) < MAX_BODY - DATA_BYTES / 2
    answer = await api.post(EVENTS, batch.ljust(MAX_BODY).encode(), 202)
    assert len(answer["items"]) == len(parts.ingest.events) == 19
    assert str(MAX_BODY) in (await api.post(EVENTS, batch.ljust(MAX_BODY + 1).encode(), 413))["detail"]
    assert len(parts.ingest.events) == 19


CASE = {"type": "case.updated", "actor": 40}
WRONG = {"id": "7", "title": None, "steps": [{}, 1]}
FAULTS = {"/data/id": "type", "/data/title": "type", "/data/steps/1": "type"}


async def qase(api: Api, validation: str | None) -> str:
    """A tenant of a product with a catalogue; where its events go."""
    await api.tenant("qase", "q", **({} if validation is None else {"validation": validation}))
    return "/v1/tenants/q/events"


@pytest.mark.parametrize("validation", [None, "off"])
async def test_data_is_not_looked_at_unless_that_is_wanted(
    api: Api, monkeypatch: pytest.MonkeyPatch, validation: str | None
) -> None:
    """By default no event is compared with its schema, nor is any time spent on it."""
    monkeypatch.setattr(validating, "faults", None)
    events = await qase(api, validation)
    assert set(await api.post(events, {**CASE, "data": WRONG}, 202)) == {"id"}


async def test_data_unlike_the_catalogue_is_refused_where_that_is_wanted(api: Api, parts: Parts) -> None:
    """422 says all that is wrong and where, without what was sent; nothing is stored."""
    events = await qase(api, "enforce")
    problem = await api.post(events, {**CASE, "data": {**WRONG, "id": "canary"}}, 422)
    assert faults(problem) == FAULTS
    assert {error["message"] for error in problem["errors"]} == {
        "This must be an integer",
        "This must be a text",
        "This must be an object",
    }
    assert "canary" not in str(problem)
    assert faults(await api.post(events, {**CASE, "data": {}}, 422)) == {"/data/id": "required"}
    assert parts.ingest.events == []
    assert set(await api.post(events, {**CASE, "data": {"id": 7, "new": 1}}, 202)) == {"id"}


async def test_of_a_batch_data_unlike_the_catalogue_is_refused_alone(api: Api, parts: Parts) -> None:
    """207: the item says what is wrong at its place in the batch; the others are stored."""
    events = await qase(api, "enforce")
    items = (await api.post(events, {"events": [{**CASE, "data": {"id": 7}}, {**CASE, "data": WRONG}]}, 207))["items"]
    assert [item["status"] for item in items] == [202, 422]
    assert faults(items[1]) == {f"/events/1{field}": rule for field, rule in FAULTS.items()}
    assert [event.data for event in parts.ingest.events] == ['{"id": 7}'.replace(" ", "")]


async def test_data_unlike_the_catalogue_is_warned_of_where_that_is_wanted(api: Api, parts: Parts) -> None:
    """It is stored, alone and in a batch, and the answer says what is wrong; a change of mind counts at once."""
    events = await qase(api, "warn")
    answer = await api.post(events, {**CASE, "id": "e1", "data": WRONG}, 202)
    assert (answer["id"], faults({"errors": answer["warnings"]})) == ("e1", FAULTS)
    items = (await api.post(events, {"events": [{**CASE, "data": {"id": 7}}, {**CASE, "data": WRONG}]}, 202))["items"]
    assert "warnings" not in items[0]
    assert faults({"errors": items[1]["warnings"]}) == {f"/events/1{field}": rule for field, rule in FAULTS.items()}
    assert len(parts.ingest.events) == 3
    assert (await api.patch("/v1/tenants/q", {"validation": "off"}))["validation"] == "off"
    assert "warnings" not in await api.post(events, {**CASE, "data": WRONG}, 202)


async def test_a_products_own_rule_holds_whatever_is_validated(api: Api) -> None:
    """What a product could not send is refused with validation off, too."""
    problem = await api.post(await qase(api, "off"), {**CASE, "data": [7]}, 422)
    assert set(faults(problem)) == {"/data"}


@pytest.mark.parametrize("count", [5, 100_000])
async def test_what_is_told_is_bounded(api: Api, count: int) -> None:
    """Of a list with many faults some are told, and few elements are looked at: time and answer stay small."""
    events = await qase(api, "enforce")
    problem = await api.post(events, {**CASE, "data": {"id": 7, "steps": [1] * count}}, 422)
    assert len(problem["errors"]) == min(count, validating.MAX_FAULTS)
    late: list[Any] = [{}] * validating.MAX_ITEMS
    await api.post(events, {**CASE, "data": {"id": 7, "steps": [*late, 1]}}, 202)
    await api.post(events, {**CASE, "data": {"id": 7, "steps": [*late[1:], 1]}}, 422)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_fault_has_words_of_our_own(profile: str) -> None:
    """Of what each catalogue's schemas can object to, nothing is left to a message that repeats what was sent."""
    for name in PROFILES[profile].catalogue.by_name:
        for data in ("canary", {}, {"canary": "canary"}, {"id": ["canary"], "resourceId": "canary", "auditId": 1}):
            found = validating.faults(PROFILES[profile], name, data, "/data")
            assert {fault.rule for fault in found} <= {"type", "required", "unknown"}
            assert "canary" not in str([fault.message for fault in found])
