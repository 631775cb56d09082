"""Records of the flow to and from plain Avro values, field by field (a record of `fastavro` is a dict)."""

from __future__ import annotations

from typing import Any

from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Answers, Attempt, Dead, Delivery, Done, Next, Origin, Retry, Skipped, Verdict
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Sealed, Subscription, Tenant

Plain = dict[str, Any]
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


def to_event(v: Plain) -> Event:
    """From `event.avsc`."""
    return Event(v["id"], v["tenant"], v["type"], v["time"], v["data"], v["actor"], v["subject"], v["source"])


def from_event(e: Event) -> Plain:
    """To `event.avsc`."""
    own = {"id": e.id, "tenant": e.tenant, "type": e.type, "time": e.time_ms, "data": e.data}
    return {**own, "actor": e.actor, "subject": e.subject, "source": e.source}


def to_delivery(v: Plain) -> Delivery:
    """From `delivery.avsc`."""
    o = v["origin"]
    return Delivery(
        v["id"],
        v["tenant"],
        v["webhook"],
        v["event"],
        v["type"],
        v["source"],
        v["time"],
        v["body"],
        v["attempt"],
        Origin(o["topic"], o["partition"], o["offset"], o["subscriptions_offset"]),
        v["replay"],
        v["first"],
    )


def from_delivery(d: Delivery) -> Plain:
    """To `delivery.avsc`."""
    o = d.origin
    return {
        "id": d.id,
        "tenant": d.tenant,
        "webhook": d.webhook,
        "event": d.event,
        "type": d.type,
        "source": d.source,
        "time": d.time_ms,
        "body": d.body,
        "attempt": d.attempt,
        "origin": {
            "topic": o.topic,
            "partition": o.partition,
            "offset": o.offset,
            "subscriptions_offset": o.subscriptions_offset,
        },
        "replay": d.replay,
        "first": d.first,
    }


def to_attempt(v: Plain) -> Attempt:
    """From `attempt.avsc`."""
    return Attempt(
        v["delivery"],
        v["round"],
        v["hop"],
        v["event"],
        v["tenant"],
        v["webhook"],
        v["type"],
        v["attempt"],
        v["started"],
        v["duration_ms"],
        _VERDICTS[v["verdict"]],
        v["status_code"],
        _to_headers(v["request_headers"]),
        _to_headers(v["response_headers"]),
        v["response_body"],
        to_next(v["next"]),
        Answers(v["answers"]["partition"], v["answers"]["offset"]),
    )


def from_attempt(a: Attempt) -> Plain:
    """To `attempt.avsc`."""
    return {
        "delivery": a.delivery,
        "round": a.round,
        "hop": a.hop,
        "event": a.event,
        "tenant": a.tenant,
        "webhook": a.webhook,
        "type": a.type,
        "attempt": a.attempt,
        "started": a.started_ms,
        "duration_ms": a.duration_ms,
        "verdict": a.verdict,
        "status_code": a.status_code,
        "request_headers": [{"name": name, "value": value} for name, value in a.request_headers],
        "response_headers": [{"name": name, "value": value} for name, value in a.response_headers],
        "response_body": a.response_body,
        "next": _from_next(a.next),
        "answers": {"partition": a.answers.partition, "offset": a.answers.offset},
    }


def to_dead_letter(v: Plain) -> DeadLetter:
    """From `dead_letter.avsc`."""
    return DeadLetter(
        id=v["id"],
        reason=Reason(v["reason"]),
        detail=v["detail"],
        source=Source(v["topic"], v["partition"], v["offset"]),
        time_ms=v["time"],
        key=v["key"],
        value=v["value"],
        headers=tuple((header["name"], header["value"]) for header in v["headers"]),
        digest=v["digest"],
        delivery=None if v["delivery"] is None else to_delivery(v["delivery"]),
        last_attempt=None if v["last_attempt"] is None else to_attempt(v["last_attempt"]),
        timestamp_ms=v["timestamp"],
        redriven_ms=v["redriven"],
    )


def from_dead_letter(letter: DeadLetter) -> Plain:
    """To `dead_letter.avsc`."""
    return {
        "id": letter.id,
        "reason": letter.reason.value,
        "detail": letter.detail,
        "topic": letter.source.topic,
        "partition": letter.source.partition,
        "offset": letter.source.offset,
        "time": letter.time_ms,
        "key": letter.key,
        "value": letter.value,
        "headers": [{"name": name, "value": value} for name, value in letter.headers],
        "digest": letter.digest,
        "delivery": None if letter.delivery is None else from_delivery(letter.delivery),
        "last_attempt": None if letter.last_attempt is None else from_attempt(letter.last_attempt),
        "timestamp": letter.timestamp_ms,
        "redriven": letter.redriven_ms,
    }


def to_subscription(v: Plain) -> Subscription:
    """From `subscription.avsc`."""
    return Subscription(
        tenant=v["tenant"],
        webhook=v["webhook"],
        url=v["url"],
        events=tuple(v["events"]),
        auth=Auth(v["auth"]["type"], _to_sealed(v["auth"]["sealed"])),
        name=v["name"],
        components=tuple(v["components"]),
        active=v["active"],
        headers=_to_sealed(v["headers"]),
        client_certificate=_to_sealed(v["client_certificate"]),
        filter=v["filter"],
        projection=v["projection"],
        rate=v["rate"],
        max_in_flight=v["max_in_flight"],
        generation=v["generation"],
        version=v["version"],
        created_ms=v["created"],
        updated_ms=v["updated"],
        replay=v["replay"],
    )


def from_subscription(s: Subscription) -> Plain:
    """To `subscription.avsc`."""
    return {
        "tenant": s.tenant,
        "webhook": s.webhook,
        "url": s.url,
        "events": list(s.events),
        "auth": {"type": s.auth.type, "sealed": _from_sealed(s.auth.sealed)},
        "name": s.name,
        "components": list(s.components),
        "active": s.active,
        "headers": _from_sealed(s.headers),
        "client_certificate": _from_sealed(s.client_certificate),
        "filter": s.filter,
        "projection": s.projection,
        "rate": s.rate,
        "max_in_flight": s.max_in_flight,
        "generation": s.generation,
        "version": s.version,
        "created": s.created_ms,
        "updated": s.updated_ms,
        "replay": s.replay,
    }


def to_tenant(v: Plain) -> Tenant:
    """From `tenant.avsc`."""
    return Tenant(
        id=v["id"],
        name=v["name"],
        profile=v["profile"],
        plan=v["plan"],
        programs=v["programs"],
        limits=v["limits"],
        data_key=_to_sealed(v["data_key"]),
        created_ms=v["created"],
        updated_ms=v["updated"],
        validation=v["validation"],
    )


def from_tenant(t: Tenant) -> Plain:
    """To `tenant.avsc`."""
    own = {
        "id": t.id,
        "name": t.name,
        "profile": t.profile,
        "plan": t.plan,
        "programs": t.programs,
        "limits": dict(t.limits),
        "validation": t.validation,
    }
    return {**own, "data_key": _from_sealed(t.data_key), "created": t.created_ms, "updated": t.updated_ms}


def to_endpoint_state(v: Plain) -> EndpointState:
    """From `endpoint_state.avsc`."""
    return EndpointState(
        tenant=v["tenant"],
        webhook=v["webhook"],
        generation=v["generation"],
        disabled=v["disabled"],
        reason=v["reason"],
        failing_since_ms=v["failing_since"],
        failures=v["failures"],
        warned_h=v["warned_h"],
        breaker_until_ms=v["breaker_until"],
        reserved_until_ms=v["reserved_until"],
        capacity=v["capacity"],
        last_verdict=v["last_verdict"],
        tested_ms=v["tested"],
        time_ms=v["time"],
    )


def from_endpoint_state(s: EndpointState) -> Plain:
    """To `endpoint_state.avsc`."""
    return {
        "tenant": s.tenant,
        "webhook": s.webhook,
        "generation": s.generation,
        "disabled": s.disabled,
        "reason": s.reason,
        "failing_since": s.failing_since_ms,
        "failures": s.failures,
        "warned_h": s.warned_h,
        "breaker_until": s.breaker_until_ms,
        "reserved_until": s.reserved_until_ms,
        "capacity": s.capacity,
        "last_verdict": s.last_verdict,
        "tested": s.tested_ms,
        "time": s.time_ms,
    }


def _to_headers(headers: list[Plain]) -> tuple[tuple[str, str], ...]:
    return tuple((header["name"], header["value"]) for header in headers)


def to_next(v: Plain) -> Next:
    """Of `attempt.avsc`."""
    match v["kind"]:
        case "done":
            return Done()
        case "retry":
            return Retry(v["wait_ms"])
        case "dead":
            return Dead(v["reason"])
        case "skipped":
            return Skipped()
    raise ValueError(f"next: {v['kind']}")


def _from_next(then: Next) -> Plain:
    match then:
        case Done():
            return {"kind": "done", "wait_ms": None, "reason": None}
        case Retry(wait_ms):
            return {"kind": "retry", "wait_ms": wait_ms, "reason": None}
        case Dead(reason):
            return {"kind": "dead", "wait_ms": None, "reason": reason}
        case Skipped():
            return {"kind": "skipped", "wait_ms": None, "reason": None}


def _to_sealed(v: Plain | None) -> Sealed | None:
    return None if v is None else Sealed(v["key"], v["version"], v["box"])


def _from_sealed(s: Sealed | None) -> Plain | None:
    return None if s is None else {"key": s.key, "version": s.version, "box": s.box}
