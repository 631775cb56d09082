"""The application: the table of operations, and what is asked without a key."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api import problems
from pipeline.api.auth import Authenticate, Keys, requires
from pipeline.api.deps import Deps
from pipeline.api.operations import OPERATIONS, Operation
from pipeline.api.transport import Body, Meter

_ALWAYS = {401: "No valid key.", 403: "The key's role does not include this.", 500: "A fault of ours."}
_WITH_BODY = {400: "The body cannot be read.", 413: "Too large.", 422: "A field breaks a rule."}
_WORDS = {
    404: "There is no such thing, or it is not yours.",
    409: "It cannot be done as things are.",
    422: "A parameter breaks a rule.",
    503: "Kafka does not answer: the sentence says what is known.",
}


def create_app(deps: Deps) -> FastAPI:
    """The REST API over these parts. It starts nothing and holds nothing of its own."""
    app = FastAPI(title="Webhook pipeline", version="1", docs_url=None, redoc_url=None, strict_content_type=False)
    app.state.deps = deps
    for operation in OPERATIONS:
        _add(app, operation)
    for path, endpoint in (("/healthz", _healthz), ("/readyz", _readyz), ("/metrics", _metrics)):
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
    problems.install(app)
    _secure(app)
    app.add_middleware(Body)
    app.add_middleware(Authenticate, keys=Keys(deps.admin_key))
    app.add_middleware(Meter, registry=deps.metrics)
    return app


def _add(app: FastAPI, operation: Operation) -> None:
    more = {**operation.more, "responses": _refusals(operation) | operation.more.get("responses", {})}
    extra = {"x-least-role": operation.least.value, **operation.more.get("openapi_extra", {})}
    app.add_api_route(
        operation.path,
        operation.endpoint,
        methods=[operation.method],
        operation_id=operation.id,
        status_code=operation.status,
        tags=[operation.tag],
        summary=operation.summary,
        dependencies=[Depends(requires(operation.least))],
        **{**more, "openapi_extra": extra},
    )


def _refusals(operation: Operation) -> dict[int | str, dict[str, Any]]:
    words = _ALWAYS | (_WITH_BODY if operation.method in {"POST", "PATCH"} else {})
    words |= {status: _WORDS[status] for status in operation.refusals if status not in words}
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {problems.MEDIA_TYPE: {"schema": schema}}
    return {status: {"description": text, "content": content} for status, text in sorted(words.items())}


def _secure(app: FastAPI) -> None:
    """Put what FastAPI does not know by itself into the OpenAPI document: the key, and how refusals really look."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        made = build()
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"key": []}]
        schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts["schemas"] = {**parts.get("schemas", {}), **schema.pop("$defs"), "Problem": schema}
        for unused in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(unused, None)
        for one in (one for path in made["paths"].values() for one in path.values()):
            if "HTTPValidationError" in str(one["responses"].get("422")):
                del one["responses"]["422"]  # it has no parameter that can break a rule
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


async def _healthz() -> Response:
    return JSONResponse({"alive": True})


async def _readyz(request: Request) -> Response:
    reasons = request.app.state.deps.not_ready()
    return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.deps.metrics), media_type=CONTENT_TYPE_LATEST)
