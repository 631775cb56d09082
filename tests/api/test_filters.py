from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow.expressions import MAX_CHARACTERS
from pipeline.kafka.topics import SUBSCRIPTIONS
from tests.api.conftest import URL, Api, faults
from tests.api.parts import Parts

EVENT: dict[str, Any] = {"type": "invoice.paid", "time": "2025-11-05T10:30:00Z", "data": {"amount": 149.9}}
WEBHOOK = {"url": URL, "events": ["*"]}
TRY = "/v1/tenants/acme/filter/test"


async def tried(api: Api, path: str = TRY, **body: Any) -> Any:
    return await api.post(path, {"event": EVENT, **body}, 200)


async def test_a_webhook_has_a_filter_and_a_projection(api: Api, parts: Parts) -> None:
    """They are written with the webhook, shown with it, changed alone, and cleared by null; its generation stays."""
    hooks = await api.tenant()
    made = await api.post(hooks, {**WEBHOOK, "filter": "data.a", "projection": "data.b"})
    assert (made["filter"], made["projection"]) == ("data.a", "data.b")
    hook = f"{hooks}/{made['id']}"
    changed = await api.patch(hook, {"filter": "data.c"})
    assert (changed["filter"], changed["projection"], changed["version"]) == ("data.c", "data.b", 2)
    held = parts.view.get(SUBSCRIPTIONS, f"acme/{made['id']}")
    assert held is not None
    stored = parts.codec.decode_subscription(held)
    assert (stored.filter, stored.projection, stored.generation) == ("data.c", "data.b", 1)
    cleared = await api.patch(hook, {"filter": None, "projection": None})
    assert (cleared["filter"], cleared["projection"]) == (None, None)


@pytest.mark.parametrize("length", [MAX_CHARACTERS, MAX_CHARACTERS + 1])
async def test_a_filter_has_a_limit(api: Api, length: int) -> None:
    """2,048 characters are taken, one more is refused."""
    hooks = await api.tenant()
    await api.post(hooks, {**WEBHOOK, "filter": "a" * length}, 201 if length == MAX_CHARACTERS else 422)


async def test_an_edit_keeps_the_filter(api: Api) -> None:
    """A filter that is refused changes nothing."""
    hooks = await api.tenant()
    made = await api.post(hooks, {**WEBHOOK, "filter": "data.a"})
    problem = await api.patch(f"{hooks}/{made['id']}", {"filter": "data.a ="}, 422)
    assert faults(problem) == {"/filter": "jmespath"}
    assert "at character 8" in problem["detail"]
    assert (await api.get(f"{hooks}/{made['id']}"))["filter"] == "data.a"


@pytest.mark.parametrize(
    ("text", "matches", "result", "error"),
    [
        ("data.amount > `100`", True, True, None),
        ("data.amount", True, 149.9, None),
        ("data.nothing", False, None, None),
        ("time == '2025-11-05T10:30:00.000Z'", True, True, None),
        ("abs(type)", False, None, "abs() does not take string"),
    ],
)
async def test_a_filter_can_be_tried(api: Api, text: str, matches: Any, result: Any, error: Any) -> None:
    """Whether the event gets through, what the expression comes to, and why it comes to nothing."""
    await api.tenant()
    answer = await tried(api, filter=text)
    assert (answer["matches"], answer["result"], answer["error"]) == (matches, result, error)
    assert answer["projected"] == EVENT["data"]


async def test_a_projection_can_be_tried(api: Api) -> None:
    """What would be the body's data; null where it comes to nothing, with the reason if it is an error."""
    await api.tenant()
    answer = await tried(api, projection="{sum: data.amount, of: type}")
    assert (answer["matches"], answer["projected"]) == (True, {"sum": 149.9, "of": "invoice.paid"})
    answer = await tried(api, projection="abs(data)")
    assert (answer["projected"], answer["projection_error"]) == (None, "abs() does not take object")
    answer = await tried(api, projection="data.nothing")
    assert (answer["projected"], answer["projection_error"]) == (None, None)


async def test_a_webhooks_own_can_be_tried(api: Api) -> None:
    """What is not given is the webhook's; null tries it without."""
    hooks = await api.tenant()
    made = await api.post(hooks, {**WEBHOOK, "filter": "data.amount > `200`", "projection": "type"})
    path = f"{hooks}/{made['id']}/filter/test"
    answer = await tried(api, path)
    assert (answer["matches"], answer["projected"]) == (False, "invoice.paid")
    assert (await tried(api, path, filter="data.amount > `100`"))["matches"] is True
    answer = await tried(api, path, filter=None, projection=None)
    assert (answer["matches"], answer["projected"]) == (True, EVENT["data"])
    await api.post(f"{hooks}/wh_none/filter/test", {"event": EVENT}, 404)


async def test_what_is_stored_and_cannot_be_used_is_said(api: Api, parts: Parts) -> None:
    """A record of another version's: trying it says what the router would stumble over."""
    hooks = await api.tenant()
    made = await api.post(hooks, WEBHOOK)
    key = f"acme/{made['id']}"
    held = parts.view.get(SUBSCRIPTIONS, key)
    assert held is not None
    worse = replace(parts.codec.decode_subscription(held), filter="a =", projection="b =")
    parts.view.put(SUBSCRIPTIONS, key, parts.codec.encode_subscription(worse))
    answer = await tried(api, f"{hooks}/{made['id']}/filter/test")
    assert (answer["matches"], answer["projected"]) == (False, None)
    assert "at character 3" in answer["error"]
    assert "at character 3" in answer["projection_error"]


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"filter": "a ="}, "/filter", "jmespath"),
        ({"projection": "a ="}, "/projection", "jmespath"),
        ({"filter": 7}, "/filter", "string_type"),
        ({"event": None}, "/event", "object"),
        ({"event": {"type": "a"}}, "/event/data", "required"),
        ({"event": {**EVENT, "type": "a b"}}, "/event/type", "unknown_type"),
        ({"event": {**EVENT, "time": "now"}}, "/event/time", "time"),
        ({"other": 1}, "/other", "unknown"),
    ],
)
async def test_what_cannot_be_tried_is_refused(api: Api, body: Any, field: str, rule: str) -> None:
    """422 names the field, and of an event what would be refused of it when it came in."""
    await api.tenant()
    assert faults(await api.post(TRY, {"event": EVENT, **body}, 422)) == {field: rule}


async def test_a_product_that_sends_whole_events_has_no_projection_to_try(api: Api) -> None:
    """Where a webhook can have none, none can be tried; a filter can."""
    await api.tenant("monithq")
    event = {"type": "site_up", "data": {"site_name": "s"}}
    assert faults(await api.post(TRY, {"projection": "data", "event": event}, 422)) == {"/projection": "profile"}
    assert (await api.post(TRY, {"filter": "data.site_name", "event": event}, 200))["matches"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"event":' + b"[" * 5000, b'{"event":{"type":"a","data":' + b"[" * 990 + b"]" * 990]
)
async def test_a_body_that_cannot_be_read_is_refused(api: Api, body: bytes) -> None:
    """Whatever it is, it is 400 or 422, never a fault."""
    await api.tenant()
    closed = body + b"}}" if body.endswith(b"]") and len(body) > 2 else body
    answer = await api.client.post(TRY, content=closed)
    assert answer.status_code in (400, 422) or (closed != body and answer.status_code == 200)


@pytest.mark.parametrize("text", ["|".join(["[@,@][]"] * 60), "[@,@]|" * 60 + "@", "data.many[?@ > `0`].[@,@,@]"])
async def test_trying_is_bounded(api: Api, text: str) -> None:
    """What would take for ever, or fill an answer, comes to an error."""
    await api.tenant()
    answer = await tried(api, filter=text, projection=text, event={"type": "a", "data": {"many": [1] * 20_000}})
    assert (answer["result"], answer["projected"]) == (None, None)
    assert "more than" in answer["error"]
    assert "more than" in answer["projection_error"]
