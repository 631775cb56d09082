"""Entries as the recorder would make them: all of one small world, where an id says what it is of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.flow.audit import Audit
from pipeline.flow.deliver import Answers, Attempt, Dead, Done, Next, Retry, Skipped, Verdict
from pipeline.flow.history import AttemptSeen, AuditSeen, DeadSeen, DeliverySeen, EventSeen

TENANT = "acme"
_VERDICTS = {
    Done: Verdict.DELIVERED,
    Retry: Verdict.TIMEOUT,
    Dead: Verdict.REJECTED,
    Skipped: Verdict.SKIPPED,
}


def event(number: int = 1, **more: Any) -> EventSeen:
    """The event of that number, of type `order.paid`."""
    made = EventSeen(TENANT, f"evt_{number}", "order.paid", 1_000 + number, 0, number, 2_000 + number)
    return replace(made, **more)


def delivery(number: int = 1, **more: Any) -> DeliverySeen:
    """That event for the webhook `wh_1`: made a second after it."""
    made = DeliverySeen(
        tenant=TENANT,
        id=f"msg_{number}",
        round="",
        webhook="wh_1",
        event=f"evt_{number}",
        type="order.paid",
        time_ms=1_000 + number,
        partition=3,
        offset=number,
        append_ms=3_000 + number,
        attempt=1,
        replay=None,
        event_partition=0,
        event_offset=number,
        subscriptions_offset=77,
    )
    return replace(made, **more)


def attempt(number: int = 1, then: Next | None = None, *, offset: int = 0, **more: Any) -> AttemptSeen:
    """An attempt of that delivery; the first, if nothing else is said, a second after it was made."""
    then = then or Done()
    made = Attempt(
        delivery=f"msg_{number}",
        round="",
        hop=0,
        event=f"evt_{number}",
        tenant=TENANT,
        webhook="wh_1",
        type="order.paid",
        attempt=1,
        started_ms=4_000 + number,
        duration_ms=25,
        verdict=_VERDICTS[type(then)],
        status_code=None if isinstance(then, Skipped) else 200,
        request_headers=(("Content-Type", "application/json"), ("authorization", "***")),
        response_headers=(("x-a", "1"), ("x-a", "2")),
        response_body=b"ok",
        next=then,
        answers=Answers(3, number),
    )
    return AttemptSeen(replace(made, **more), 3, offset)


def dead(number: int = 1, **more: Any) -> DeadSeen:
    """A dead letter of that delivery."""
    made = DeadSeen(
        id=f"dl_{number}",
        tenant=TENANT,
        webhook="wh_1",
        delivery=f"msg_{number}",
        round="",
        reason="exhausted",
        time_ms=5_000 + number,
        partition=1,
        offset=number,
        detail="seven have failed",
        event=f"evt_{number}",
        type="order.paid",
    )
    return replace(made, **more)


def audit(number: int = 1, **more: Any) -> AuditSeen:
    """A change of the tenant's."""
    made = Audit(f"aud_{number}", 6_000 + number, "key_1", "admin", "update_webhook", TENANT, "wh_1", "url")
    return AuditSeen(replace(made, **more))
