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
from pipeline.api.document import describe
from pipeline.api.operations import OPERATIONS, Operation
from pipeline.api.transport import Body, Meter

_ALWAYS = {
    401: "No valid key.",
    403: "The key's role does not include this.",
    422: "A parameter breaks a rule.",
    500: "A fault of ours.",
}
_WITH_BODY = {
    400: "The body cannot be read.",
    408: "The body did not come in time.",
    413: "Too large.",
    422: "A field breaks a rule.",
    503: "Kafka does not answer, or too much is under way: the sentence says what is known.",
}
_WORDS = {
    404: "There is no such thing, or it is not yours.",
    409: "It cannot be done as things are.",
    429: "More than the tenant's limit, or than can be done at a time: `Retry-After` says when there is room.",
    503: "Kafka does not answer: the sentence says what is known.",
}


_HOW: dict[str, Any] = {"strict_content_type": False, "separate_input_output_schemas": False}


def create_app(deps: Deps) -> FastAPI:
    """The REST API over these parts. It starts nothing and holds nothing of its own."""
    app = FastAPI(title="Webhook pipeline", version="1", docs_url=None, redoc_url=None, **_HOW)
    app.state.deps = deps
    for operation in OPERATIONS:
        _add(app, operation)
    for path, endpoint in (("/healthz", _healthz), ("/readyz", _readyz), ("/metrics", _metrics)):
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
    problems.install(app)
    describe(app)
    app.add_middleware(Body)
    app.add_middleware(Authenticate, keys=Keys(deps.admin_key, deps.keys.key))
    app.add_middleware(Meter, registry=deps.metrics)
    return app


def _add(app: FastAPI, operation: Operation) -> None:
    more = {**operation.more, "responses": _refusals(operation) | operation.more.get("responses", {})}
    extra = {
        "x-least-role": operation.least.value,
        "x-configures": operation.configures,
        **operation.more.get("openapi_extra", {}),
    }
    app.add_api_route(
        operation.path,
        operation.endpoint,
        methods=[operation.method],
        operation_id=operation.id,
        status_code=operation.status,
        tags=[operation.tag],
        summary=operation.summary,
        dependencies=[Depends(requires(operation.least, configures=operation.configures))],
        **{**more, "openapi_extra": extra},
    )


def _refusals(operation: Operation) -> dict[int | str, dict[str, Any]]:
    words = _ALWAYS | (_WITH_BODY if operation.method in {"POST", "PATCH"} else {})
    words |= {status: _WORDS[status] for status in operation.refusals if status not in words}
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {problems.MEDIA_TYPE: {"schema": schema}}
    return {status: {"description": text, "content": content} for status, text in sorted(words.items())}


async def _healthz() -> Response:
    return JSONResponse({"alive": True})


async def _readyz(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    reasons = deps.not_ready()
    warnings = [warning for warning in (deps.sealing.warning, deps.log.trouble) if warning]
    return JSONResponse({"ready": not reasons, "reasons": reasons, "warnings": warnings}, 503 if reasons else 200)


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.deps.metrics), media_type=CONTENT_TYPE_LATEST)
