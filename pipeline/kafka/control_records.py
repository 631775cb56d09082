"""Records about keys, tests, cancellations, replays and changes, to and from plain Avro values."""

from __future__ import annotations

from pipeline.flow.access import ApiKey, Role
from pipeline.flow.audit import Audit
from pipeline.flow.cancels import Cancel
from pipeline.flow.replay import Ordered, Outcome, Progress, Reached, Replay, Source, Span, State
from pipeline.flow.trials import WebhookTest
from pipeline.kafka.records import Plain


def to_api_key(v: Plain) -> ApiKey:
    """From `api_key.avsc`."""
    role = Role(v["role"])
    return ApiKey(v["id"], v["prefix"], v["hash"], role, v["tenant"], v["name"], v["created"], v["revoked"])


def from_api_key(k: ApiKey) -> Plain:
    """To `api_key.avsc`."""
    own = {"id": k.id, "prefix": k.prefix, "hash": k.hash, "role": k.role.value, "tenant": k.tenant, "name": k.name}
    return {**own, "created": k.created_ms, "revoked": k.revoked_ms}


def to_webhook_test(v: Plain) -> WebhookTest:
    """From `webhook_test.avsc`."""
    told = v["outcome"], v["advice"], v["failed_in_a_row"], v["time"], v["generation"]
    return WebhookTest(v["tenant"], v["webhook"], *told)


def from_webhook_test(t: WebhookTest) -> Plain:
    """To `webhook_test.avsc`."""
    own = {"tenant": t.tenant, "webhook": t.webhook, "outcome": t.outcome, "advice": t.advice}
    return {**own, "failed_in_a_row": t.failed_in_a_row, "time": t.time_ms, "generation": t.generation}


def to_cancel(v: Plain) -> Cancel:
    """From `cancel.avsc`."""
    return Cancel(v["delivery"], v["round"], v["tenant"], v["by"], v["time"])


def from_cancel(c: Cancel) -> Plain:
    """To `cancel.avsc`."""
    return {"delivery": c.delivery, "round": c.round, "tenant": c.tenant, "by": c.by, "time": c.time_ms}


def to_audit(v: Plain) -> Audit:
    """From `audit.avsc`."""
    return Audit(v["id"], v["time"], v["key"], v["role"], v["action"], v["tenant"], v["target"], v["detail"])


def from_audit(a: Audit) -> Plain:
    """To `audit.avsc`."""
    own = {"id": a.id, "time": a.time_ms, "key": a.key, "role": a.role, "action": a.action}
    return {**own, "tenant": a.tenant, "target": a.target, "detail": a.detail}


def to_replay(v: Plain) -> Replay:
    """From `replay.avsc`."""
    return Replay(
        id=v["id"],
        tenant=v["tenant"],
        ordered=Ordered(v["state"]),
        window=tuple(Span(s["partition"], s["from"], s["to"]) for s in v["window"]),
        types=tuple(v["types"]),
        webhooks=tuple(v["webhooks"]),
        outcome=Outcome(v["outcome"]),
        target_url=v["target_url"],
        rate=v["rate"],
        by=v["by"],
        created_ms=v["created"],
        updated_ms=v["updated"],
        source=Source(v["source"]),
        reasons=tuple(v["reasons"]),
        from_ms=v["from_ms"],
        to_ms=v["to_ms"],
    )


def from_replay(r: Replay) -> Plain:
    """To `replay.avsc`."""
    return {
        "id": r.id,
        "tenant": r.tenant,
        "state": r.ordered.value,
        "window": [{"partition": s.partition, "from": s.start, "to": s.end} for s in r.window],
        "types": list(r.types),
        "webhooks": list(r.webhooks),
        "outcome": r.outcome.value,
        "target_url": r.target_url,
        "rate": r.rate,
        "by": r.by,
        "created": r.created_ms,
        "updated": r.updated_ms,
        "source": r.source.value,
        "reasons": list(r.reasons),
        "from_ms": r.from_ms,
        "to_ms": r.to_ms,
    }


def to_progress(v: Plain) -> Progress:
    """From `replay_progress.avsc`."""
    return Progress(
        id=v["id"],
        state=State(v["state"]),
        partitions=tuple(Reached(p["partition"], p["next"], p["to"], p["share"]) for p in v["partitions"]),
        events=v["events"],
        deliveries=v["deliveries"],
        bytes=v["bytes"],
        unreadable=v["unreadable"],
        waiting=v["waiting"],
        error=v["error"],
        started_ms=v["started"],
        ended_ms=v["ended"],
        time_ms=v["time"],
    )


def from_progress(p: Progress) -> Plain:
    """To `replay_progress.avsc`."""
    reached = [{"partition": r.partition, "next": r.next, "to": r.end, "share": r.share} for r in p.partitions]
    return {
        "id": p.id,
        "state": p.state.value,
        "partitions": reached,
        "events": p.events,
        "deliveries": p.deliveries,
        "bytes": p.bytes,
        "unreadable": p.unreadable,
        "waiting": p.waiting,
        "error": p.error,
        "started": p.started_ms,
        "ended": p.ended_ms,
        "time": p.time_ms,
    }
