"""Refusals as the client reads them: RFC 9457 problems; field, rule and a plain sentence for each fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.errors import Undecodable, Unreachable, UsageError

MEDIA_TYPE = "application/problem+json"
UNREADABLE = "The body is not JSON that can be read"
_UNDECODABLE = "What is stored of this cannot be read, by a fault of ours. Delete it, and make it anew."
_RULES = {
    "extra_forbidden": "unknown",
    "missing": "required",
    "model_attributes_type": "object",
    "model_type": "object",
}
_MESSAGES = {
    "extra_forbidden": "There is no such field",
    "missing": "This field is required",
    "model_attributes_type": "This must be a JSON object",
    "model_type": "This must be a JSON object",
    "string_pattern_mismatch": "This holds a character that it must not hold",
}
_FOREIGN = re.compile(r"^(String|Input|List|Value|Dictionary) should")
_HTTP = {404: "There is nothing at this address.", 405: "This method is not for this address.", 400: UNREADABLE}


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: a JSON pointer (RFC 6901) into the body, or `/` and a parameter's name."""

    field: str
    rule: str
    message: str


class Refusal(UsageError):
    """A request that is refused: the status, why in one sentence, what is wrong where, and headers of the answer."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = tuple(errors)
        self.headers = headers


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(
        description="A JSON pointer into the body, or `/` and the name of a parameter.", examples=["/url"]
    )
    rule: str = Field(description="The rule that was broken, in a word that stays.", examples=["https"])
    message: str = Field(description="The same for people.")


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


def not_found(what: str) -> Refusal:
    """404, also for what belongs to somebody else."""
    return Refusal(HTTPStatus.NOT_FOUND, f"There is no such {what}.")


def invalid(errors: Sequence[FieldError]) -> Refusal:
    """422, with the first fault in `detail`."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, errors[0].message, errors)


def response(
    status: int, detail: str, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as an answer."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": int(status), "detail": detail}
    listed = {"errors": [asdict(error) for error in errors]}
    return Response(orjson.dumps(body | listed), status, headers, MEDIA_TYPE)


def example(status: int, detail: str) -> dict[str, Any]:
    """A problem of this status, for the OpenAPI document."""
    listed = (
        [{"field": "/url", "rule": "https", "message": detail}] if status == HTTPStatus.UNPROCESSABLE_ENTITY else []
    )
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "errors": listed}


def install(app: FastAPI) -> None:
    """Answer every refusal of the application, its framework's own included, as a problem."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Unreachable, _unreachable)
    app.add_exception_handler(Undecodable, _undecodable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _refused(_request: Request, error: Any) -> Response:
    return response(error.status, str(error), error.errors, error.headers)


async def _unreachable(_request: Request, error: Any) -> Response:
    return response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})


async def _undecodable(_request: Request, _error: Any) -> Response:
    return response(HTTPStatus.INTERNAL_SERVER_ERROR, _UNDECODABLE)


async def _http(_request: Request, error: Any) -> Response:
    return response(error.status_code, _HTTP.get(error.status_code, str(error.detail)), headers=error.headers)


async def _invalid(_request: Request, error: Any) -> Response:
    found = error.errors()
    if any(one["type"] == "json_invalid" or (one["type"], one["loc"]) == ("missing", ("body",)) for one in found):
        return response(HTTPStatus.BAD_REQUEST, UNREADABLE)
    return await _refused(_request, invalid([field_error(one["loc"][1:], one) for one in found]))


def pointer(place: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def field_error(place: Sequence[str | int], error: Mapping[str, Any]) -> FieldError:
    """One of pydantic's errors; what was given, which may be a secret, is left out."""
    rule = error["type"]
    words = _MESSAGES.get(rule) or _FOREIGN.sub("This must", error["msg"])
    return FieldError(pointer(place), _RULES.get(rule, rule), words)
