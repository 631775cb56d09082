"""The delivery log on the command line, against a running API with a real database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import pytest

from pipeline.cli._times import rfc3339, time_ms
from pipeline.errors import UsageError
from pipeline.flow.deliver import Delivery
from tests.api.logged import Logged
from tests.api.parts import NOW_MS, Parts
from tests.cli.conftest import Command

URL = "https://example.com/hook"
SINCE = "2026-01-01T00:00:00Z"
_numbers = itertools.count()
T = TypeVar("T")


@pytest.fixture
def log(api: Command, served: tuple[str, Parts]) -> Logged:
    """The log of tenant `acme`, whose webhook is the test's own."""
    api("tenants", "create", "acme", "--profile", "standard")
    made = api("webhooks", "create", "acme", "--url", URL, "--event", "order.*", "-o", "json").json
    return Logged(cast("Any", None), served[1], made["id"])


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def delivery(log: Logged, end: str, at: int = NOW_MS) -> Delivery:
    event = run(log.event(f"e/{next(_numbers)}", at=at))
    return run(log.delivery(event, end=end, at=at))


def test_deliveries(api: Command, log: Logged) -> None:
    """They are listed, shown, sent again and stopped; refusals are one line, exit code 2."""
    failed, waiting = delivery(log, "failed"), delivery(log, "retrying")
    mine = ("--webhook", log.webhook, "-o", "json")
    listed = api("deliveries", "list", "acme", *mine, "--status", "failed", "--status", "pending").json
    assert [one["id"] for one in listed] == [failed.id]
    assert api("deliveries", "list", "acme", *mine, "--type", "none", "--from", "-2h", "--to", "@5").json == []
    assert waiting.id in api("deliveries", "list", "acme", "--webhook", log.webhook).out
    shown = api("deliveries", "show", "acme", failed.id).out
    assert "rejected" in shown
    assert '{"body":1}' in shown
    assert api("deliveries", "show", "acme", failed.id, "-o", "json").json["attempts"][0]["verdict"] == "rejected"
    assert api("deliveries", "redeliver", "acme", failed.id, "-o", "json").json["round"]
    assert "already" in api.refused("deliveries", "redeliver", "acme", failed.id)
    assert "No further attempt" in api("deliveries", "cancel", "acme", waiting.id).out
    assert api.refused("deliveries", "show", "acme", "msg_none") == "There is no such delivery."
    assert "--from 'noon': write -2h" in api.refused("deliveries", "list", "acme", "--from", "noon")
    assert api.refused("deliveries", "list", "acme", "--status", "lost").startswith("status")


def test_events(api: Command, log: Logged) -> None:
    """They are listed, shown with their deliveries, and explained, whatever their ids hold."""
    held = delivery(log, "delivered")
    listed = api("events", "list", "acme", "--type", "order.paid", "--from", SINCE, "-o", "jsonl").lines
    assert held.event in [one["id"] for one in listed]
    shown = api("events", "show", "acme", held.event, "-o", "json").json
    assert (shown["data"], [one["id"] for one in shown["deliveries"]]) == ({"n": 1.5}, [held.id])
    assert held.id in api("events", "show", "acme", held.event).out
    why = {one["webhook"]: one for one in api("events", "explain", "acme", held.event, "-o", "json").json}
    assert why[log.webhook]["reason"] == "delivery"
    assert "It wanted the event" in api("events", "explain", "acme", held.event).out
    assert api.refused("events", "show", "acme", "e/none") == "There is no such event."


def test_times() -> None:
    """Before now, by the calendar, or by the number."""
    assert time_ms("-2h", now_s=10_000) == 2_800_000
    assert rfc3339("--to", "@1500") == "1970-01-01T00:00:01.500Z"
    assert rfc3339("--to", "2026-01-31T12:00:00+01:00") == "2026-01-31T11:00:00.000Z"
    assert rfc3339("--to", None) is None
    for wrong in ("", "-2x", "@x", "31.1.2026", "@99999999999999999"):
        with pytest.raises(UsageError, match="--to"):
            rfc3339("--to", wrong)
