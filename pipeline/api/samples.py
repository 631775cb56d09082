"""Examples for the OpenAPI document: put together from a schema and what its fields say of themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_TIME = "2026-01-31T12:00:00.000Z"
_TIMES = ("_at", "_until", "_since", "_by")
_WEBHOOK, _DELIVERY = "wh_4fQ2xT9bLmZaR7cVnKpW1s", "msg_01jbx3z6w5v4t2s1r0q9p8n7m6"
_REPLAY = "rpl_4fQ2xT9bLmZaR7cVnKpW1s"
_LETTER = "dl_7XKQ2M4ZC5RJ3VBN6TYH8WPLDE"
_IDS = {
    "Webhook": _WEBHOOK,
    "Rotated": _WEBHOOK,
    "Delivery": _DELIVERY,
    "Redelivered": _DELIVERY,
    "Cancelled": _DELIVERY,
    "Event": "evt-1",
    "Accepted": "evt-1",
    "Batch": "evt-1",
    "Letter": _LETTER,
    "RedrivenLetter": _LETTER,
    "Audit": "aud_7cVnKpW1s4fQ2xT9bLmZaR",
    "Key": "4fQ2xT9bLmZa",
    "NewKey": "4fQ2xT9bLmZa",
    "Replay": _REPLAY,
}
"""The id of a model, by how its title begins; others have a tenant's."""
_KNOWN: Mapping[str, Any] = {
    "tenant": "acme",
    "webhook": _WEBHOOK,
    "webhook_id": _DELIVERY,
    "event": "evt-1",
    "delivery": _DELIVERY,
    "letter": _LETTER,
    "profile": "standard",
    "name": "Billing",
    "url": "https://example.com/webhooks",
    "events": ["invoice.*"],
    "time": _TIME,
    "started": _TIME,
    "since": _TIME,
    "not_after": _TIME,
    "auth": {"type": "standard_webhooks", "secret": "whsec_…LaSw"},
    "headers": {"Authorization": "***"},
    "fingerprint_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "status_code": 200,
    "type": "invoice.paid",
    "key": "whk_4fQ2xT9bLmZa_…",
    "target": _WEBHOOK,
    "by_type": {"invoice.paid": 2},
    "body": '{"type":"invoice.paid","timestamp":"2026-01-31T12:00:00.000Z","data":{"id":7}}',
    "next": None,
    "replay": None,
}


def sample(schema: Schema, parts: Schema, name: str = "", model: str = "", *, asked: bool = False) -> Any:
    """A value of that schema. `parts` are the document's components; `asked` leaves out what need not be given."""
    if "$ref" in schema:
        title = schema["$ref"].rpartition("/")[2]
        return sample(parts[title], parts, name, title, asked=asked)
    said = _said(schema, name, model)
    if said is not None:
        return said[0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return sample(schema[choice][0], parts, name, model, asked=asked)
    return _made(schema, parts, model, asked=asked)


def _said(schema: Schema, name: str, model: str) -> tuple[Any] | None:
    """What the field says of itself, or what its name says: in a tuple, as it may be None."""
    if schema.get("examples"):
        return (schema["examples"][0],)
    if "const" in schema or "enum" in schema:
        return (schema["const"] if "const" in schema else schema["enum"][0],)
    if name == "id":
        return (next((text for start, text in _IDS.items() if model.startswith(start)), "acme"),)
    kind = _kinds(schema)
    if "string" in kind and name.endswith(_TIMES):
        return (_TIME,)
    if name in _KNOWN and _fits(_KNOWN[name], kind):
        return (_KNOWN[name],)
    return (schema["default"],) if schema.get("default") is not None else None


def _kinds(schema: Schema) -> set[str]:
    choices = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return {one["type"] for one in choices if isinstance(one.get("type"), str)}


def _fits(value: Any, kinds: set[str]) -> bool:
    names = {str: "string", int: "integer", list: "array", dict: "object", type(None): "null"}
    return names[type(value)] in kinds


def _made(schema: Schema, parts: Schema, model: str, *, asked: bool) -> Any:
    match schema.get("type"):
        case "object":
            return _members(schema, parts, model, asked=asked)
        case "array":
            return [sample(schema["items"], parts, "", model, asked=asked)] if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return "text"
    return None


def _members(schema: Schema, parts: Schema, model: str, *, asked: bool) -> dict[str, Any]:
    needed = schema.get("required", ())
    fields = schema.get("properties", {}).items()
    return {
        name: sample(field, parts, name, schema.get("title", model), asked=asked)
        for name, field in fields
        if not asked or name in needed or "examples" in field
    }
