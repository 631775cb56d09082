"""The command line's way to the REST API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx

from pipeline.errors import PipelineError, Unreachable, UsageError

_TIMEOUT_S = 30.0


class Rest:
    """A client of the API at `url` with one key. Answers are the decoded JSON.

    Raises `UsageError` for what the API refuses (its own sentence, and each field's), `Unreachable` when it does not
    answer or has no broker, `PipelineError` for a fault of its own.
    """

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._url = url
        try:
            self._client = httpx.Client(
                base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False, transport=transport
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise UsageError("the API's URL or key holds a character that it cannot hold") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str | int | list[str] | None) -> Any:
        """What is there."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, params=given)

    def post(self, path: str, body: Any = None, patience_s: float = _TIMEOUT_S) -> Any:
        """Make or do something; `body` is bytes of JSON, or a value to be written as JSON."""
        return self._send("POST", path, body, timeout=patience_s)

    def patch(self, path: str, body: Any) -> Any:
        """Change something: a JSON merge patch."""
        return self._send("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """Remove it; what the API says of that, if anything."""
        return self._ask("DELETE", path)

    def follow(self, path: str, body: Any = None) -> Iterator[tuple[str, Any]]:
        """Do something and be told of each step of it: the events of the answer's stream, by name and data."""
        wanted = {"Accept": "text/event-stream"}
        try:
            with self._client.stream("POST", path, json=body or {}, headers=wanted) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refusal(answer)
                yield from _events(answer.iter_bytes())
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"the API at {self._url} does not answer: {error}") from error

    def all(self, path: str, limit: int, **parameters: str | int | list[str] | None) -> Iterator[Any]:
        """The items of a list, page after page, `limit` at most; the parameters narrow it."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, limit=min(limit, 200), cursor=cursor, **parameters)
            yield from page["items"]
            limit, cursor = limit - len(page["items"]), page["next"]
            if cursor is None:
                return

    def _send(self, method: str, path: str, body: Any, **how: Any) -> Any:
        if isinstance(body, bytes):
            return self._ask(method, path, content=body, headers={"Content-Type": "application/json"}, **how)
        return self._ask(method, path, **({} if body is None else {"json": body}), **how)

    def _ask(self, method: str, path: str, **what: Any) -> Any:
        try:
            answer = self._client.request(method, path, **what)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"the API at {self._url} does not answer: {error}") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refusal(answer)


def _events(chunks: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Server-sent events, each with a name and one line of JSON, as the API writes them."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n\n")  # bytes: a text's own separators are no ends of lines here
        for event in whole:
            name, _, data = event.removeprefix(b"event: ").partition(b"\ndata: ")
            yield name.decode(), json.loads(data)


def _refusal(answer: httpx.Response) -> PipelineError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    sentence = _sentence(problem if isinstance(problem, dict) else {}, answer)
    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return Unreachable(sentence)
    return UsageError(sentence) if answer.is_client_error else PipelineError(sentence)


def _sentence(problem: dict[str, Any], answer: httpx.Response) -> str:
    """`url: The URL must begin with https://; events: …`, or what the problem says as a whole."""
    errors = [error for error in problem.get("errors", ()) if error.get("field")]
    if not errors:
        return str(problem.get("detail") or f"the API answers {answer.status_code}")
    return "; ".join(f"{error['field'].strip('/').replace('/', '.')}: {error['message']}" for error in errors)
