"""What the tests of the profiles are made of."""

from __future__ import annotations

from pipeline.flow.deliver import Delivery, Origin, Outcome, Verdict
from pipeline.flow.event import Event
from pipeline.flow.retry import DEFAULT, Ladder
from pipeline.flow.subscription import Tenant

LADDER = Ladder.parse(DEFAULT)
TENANT = Tenant("demo", "Demo", "standard")
NOW_MS = 1_762_338_600_000
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def event(event_type: str = "invoice.paid", data: str = "{}", actor: str | None = None, time_ms: int = NOW_MS) -> Event:
    return Event("evt-1", "demo", event_type, time_ms, data, actor)


def delivery(body: bytes = b"{}", delivery_id: str = ID) -> Delivery:
    return Delivery(delivery_id, "demo", "default", "evt-1", "t", None, NOW_MS, body, 1, Origin("events", 0, 0, 0))


def answer(status: int, *headers: tuple[str, str]) -> Outcome:
    return Outcome(None, status, headers, b"", 5)


def failure(verdict: Verdict) -> Outcome:
    return Outcome(verdict, None, (), b"", 5)
