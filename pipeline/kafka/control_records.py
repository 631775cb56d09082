"""Records that the API alone writes about keys, tests, cancellations and changes, to and from plain Avro values."""

from __future__ import annotations

from pipeline.flow.access import ApiKey, Role
from pipeline.flow.audit import Audit
from pipeline.flow.cancels import Cancel
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
