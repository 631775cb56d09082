"""The OpenAPI document: what FastAPI cannot know by itself is put in here, once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from pipeline.api import problems
from pipeline.api.samples import sample
from pipeline.api.sent import webhooks

JSON = "application/json"
_ABOUT = (
    "Webhooks as a Kafka pipeline. Every request needs a key: `Authorization: Bearer KEY`. What is refused is answered "
    "by a problem (RFC 9457) that names each field with its rule. Lists are newest first, `limit` at a time; `next` is "
    "the `cursor` of what follows."
)
_TAGS = {
    "tenants": "The products' customers.",
    "webhooks": "Who gets which events, where.",
    "trials": "Tests of a webhook's configuration.",
    "filters": "Trying a filter or a projection before it is saved.",
    "events": "Events that come in, and what became of them.",
    "deliveries": "Events on their way to webhooks: each attempt, and sending them again.",
    "replays": "Windows of the log delivered again.",
    "dead_letters": "What could not be delivered or read, and bringing it back.",
    "redriving": "Bringing many dead letters back.",
    "recovery": "What a webhook has missed.",
    "keys": "Keys of this API.",
    "audit": "Who changed what.",
    "profiles": "The products: their events, forms and rules.",
    "secrets": "The deployment's encryption keys.",
    "processes": "How this process fares; asked without a key.",
    "sent": "What webhooks get, by product.",
}
_PARAMETERS = {
    "tenant": ("The tenant's id.", "acme"),
    "webhook": ("The webhook's id.", "wh_4fQ2xT9bLmZaR7cVnKpW1s"),
    "event": ("The event's id.", "evt-1"),
    "delivery": ("The delivery's id.", "msg_01jbx3z6w5v4t2s1r0q9p8n7m6"),
    "key": ("The key's id.", "4fQ2xT9bLmZa"),
    "letter": ("The dead letter's id.", "dl_7XKQ2M4ZC5RJ3VBN6TYH8WPLDE"),
    "replay": ("The replay's id.", "rpl_4fQ2xT9bLmZaR7cVnKpW1s"),
    "profile": ("The product's name.", "standard"),
    "limit": ("How many at most.", 50),
    "cursor": ("`next` of the page before.", "MTc2NzIyNTYwMDAwMDphY21l"),
    "from": ("Made at this time (RFC 3339) or later.", "2026-01-31T12:00:00Z"),
    "to": ("Made before this time (RFC 3339).", "2026-01-31T13:00:00Z"),
    "type": ("Of this event type.", "invoice.paid"),
    "reason": ("For this reason.", "exhausted"),
    "state": ("That stand so.", "waiting"),
    "group_by": ("Count them by this.", "reason"),
    "status": ("In this state; several may be given.", ["failed"]),
}
"""What a parameter is, where its operation does not say it, and an example."""
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
_HEADERS: Mapping[str, dict[str, Any]] = {
    "401": {"WWW-Authenticate": {"description": "Which kind of key is wanted.", "schema": {"type": "string"}}},
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}
_PROBES = {
    "/healthz": ("Whether the process lives", {"200": JSON}),
    "/readyz": ("Whether it is ready, if not why not, and what it warns of", {"200": JSON, "503": JSON}),
    "/metrics": ("Its metrics, as Prometheus reads them", {"200": "text/plain"}),
}


def describe(app: FastAPI) -> None:
    """Let the application's document say all of this."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _whole(build())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _whole(made: dict[str, Any]) -> dict[str, Any]:
    made["info"] |= {"description": _ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    parts = made.setdefault("components", {})
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    _name_problems(made, parts)
    for operation in _operations(made):
        _describe(operation, parts["schemas"])
    made["paths"] |= {path: {"get": _probe(path, *told)} for path, told in _PROBES.items()}
    made["webhooks"] = webhooks()
    used = {tag for one in (*_operations(made), *_operations(made, "webhooks")) for tag in one["tags"]}
    made["tags"] = [{"name": name, "description": words} for name, words in _TAGS.items() if name in used]
    return made


def _operations(made: dict[str, Any], where: str = "paths") -> Iterator[dict[str, Any]]:
    return (operation for path in made[where].values() for operation in path.values())


def _name_problems(made: dict[str, Any], parts: dict[str, Any]) -> None:
    """How refusals really look."""
    schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts["schemas"] = {**parts.get("schemas", {}), **schema.pop("$defs"), "Problem": schema}
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    for operation in _operations(made):
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]  # it has no parameter that can break a rule


def _describe(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        words, example = _PARAMETERS.get(parameter["name"], (parameter["name"], None))
        parameter.setdefault("description", words)
        if example is not None:
            parameter.setdefault("example", example)
    if body := operation.get("requestBody"):
        _exemplify(body["content"].get(JSON), schemas, asked=True)
    for status, answer in operation["responses"].items():
        _exemplify(answer.get("content", {}).get(JSON), schemas)
        if status in _HEADERS:
            answer["headers"] = _HEADERS[status] | answer.get("headers", {})
        if problem := answer.get("content", {}).get(problems.MEDIA_TYPE):
            problem["example"] = problems.example(int(status), answer["description"])


def _exemplify(content: dict[str, Any] | None, schemas: dict[str, Any], *, asked: bool = False) -> None:
    if content is not None and "example" not in content and "examples" not in content and "schema" in content:
        content["example"] = sample(content["schema"], schemas, asked=asked)


def _probe(path: str, summary: str, answers: Mapping[str, str]) -> dict[str, Any]:
    words = {"200": "Yes.", "503": "Not now: the reasons are told."}
    return {
        "operationId": path.strip("/"),
        "tags": ["processes"],
        "summary": summary,
        "description": f"{summary}.",
        "security": [],
        "responses": {
            status: {"description": words[status], "content": {kind: {"schema": {"type": _KINDS[kind]}}}}
            for status, kind in answers.items()
        },
    }


_KINDS = {JSON: "object", "text/plain": "string"}
