"""How a test of a configuration is told: as one JSON object at its end, or step by step as `text/event-stream`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pipeline.api.findings import Finding
from pipeline.api.lists import written_time
from pipeline.api.log.shown import Header
from pipeline.api.trying import Doing, Running, Tried
from pipeline.flow.trials import TRIES
from pipeline.profiles import masked_headers, without_echo

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Of an answer that is told as it comes: nobody on the way keeps it back."""


EVENT_STREAM = {
    "description": "What the test has come to; as an event stream each step of it.",
    "content": {
        MEDIA_TYPE: {
            "schema": {"type": "string"},
            "example": 'event: progress\ndata: {"attempt":1,"of":3,"doing":"sending","seconds":0.0}\n\n',
        }
    },
}
"""For the OpenAPI document: `progress` and `attempt` events as they come, in the end one `outcome`."""


class TrialAttempt(BaseModel):
    """One try. Secrets are masked; of the answer's body the first 16 KiB are kept, as text."""

    attempt: int
    started: str
    duration_ms: int
    verdict: str
    status_code: int | None
    request_headers: list[Header]
    response_headers: list[Header]
    response_body: str


class TrialOut(BaseModel):
    """What a test has come to. Every attempt sent the same `body`, under the same `webhook_id`."""

    outcome: Finding
    reason: str | None = Field(description="What the outcome is more closely, where it is a wide one.")
    advice: str = Field(description="What to do, in one sentence.")
    recorded: bool = Field(description="Whether the webhook's state knows of it; not if it was edited meanwhile.")
    type: str
    webhook_id: str
    body: str
    attempts: list[TrialAttempt]


class Progress(BaseModel):
    """What is being done about an attempt, and for how many seconds already."""

    attempt: int
    of: int = TRIES
    doing: Literal["waiting", "sending"]
    seconds: float


def wants_stream(request: Request) -> bool:
    """Whether the client asks to be told step by step."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def streamed(running: Running[TrialOut]) -> StreamingResponse:
    """The steps of a test as they come: `progress` and `attempt` events, in the end one `outcome`."""
    return StreamingResponse(_events(running), media_type=MEDIA_TYPE, headers=HEADERS)


def attempt_out(tried: Tried) -> TrialAttempt:
    """A try as clients see it."""
    outcome = without_echo(tried.outcome, tried.request.headers)
    return TrialAttempt(
        attempt=tried.number,
        started=written_time(tried.started_ms),
        duration_ms=outcome.duration_ms,
        verdict=tried.verdict,
        status_code=outcome.status,
        request_headers=_headers(masked_headers(tried.request.headers)),
        response_headers=_headers(outcome.headers),
        response_body=outcome.body.decode(errors="replace"),
    )


def _headers(headers: tuple[tuple[str, str], ...]) -> list[Header]:
    return [Header(name=name, value=value) for name, value in headers]


async def _events(running: Running[TrialOut]) -> AsyncIterator[bytes]:
    async for step in running.steps():
        match step:
            case Doing(number, what, seconds):
                yield event("progress", Progress(attempt=number, doing=what, seconds=round(seconds, 1)))
            case Tried():
                yield event("attempt", attempt_out(step))
    yield event("outcome", await running.result())


def event(name: str, data: BaseModel) -> bytes:
    """One event of such a stream."""
    return f"event: {name}\ndata: {data.model_dump_json(by_alias=True)}\n\n".encode()
