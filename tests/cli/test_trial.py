"""`pipeline webhooks test`, against a running API and an endpoint."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.api.trying import Trials
from pipeline.cli._trial import follow
from pipeline.errors import PipelineError
from pipeline.http.client import DeliveryClient
from pipeline.http.guard import EgressPolicy
from tests.api.parts import Parts, memory_parts
from tests.api.test_trying import Pauses
from tests.cli.conftest import Command, serving
from tests.http.endpoints import closed_port

LOOPBACK = EgressPolicy.parse("127.0.0.0/8")
BODY = "a\u2028b\x85c\x0bd"
"""Holds what some take for ends of lines."""


@dataclass
class Endpoint:
    """Answers with these statuses in turn, the last one for ever."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    marks: list[str | None] = field(default_factory=list)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            made.marks.append(self.headers["webhook-test"])
            self.send_response(made.statuses.pop(0) if len(made.statuses) > 1 else made.statuses[0])
            self.send_header("Content-Length", str(len(BODY.encode())))
            self.end_headers()
            self.wfile.write(BODY.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=partial(server.serve_forever, 0.02))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Parts]]:
    """An API that may send to loopback."""
    with serving(partial(_parts, tmp_path_factory.mktemp("data"))) as running:
        yield running


def _parts(folder: Path, stack: AsyncExitStack) -> Parts:
    client = DeliveryClient(LOOPBACK, data_dir=folder)
    stack.push_async_callback(client.aclose)
    trials = Trials(client, lambda: time.time_ns() // 1_000_000, Pauses())
    return memory_parts(trials=trials, policy=LOOPBACK)


@pytest.fixture
def webhook(api: Command, endpoint: Endpoint, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A tenant of the test's own, and its webhook."""
    tenant = request.node.name.replace("[", "-").replace("]", "")[-60:]
    api("tenants", "create", tenant, "--profile", "standard")
    made = api("webhooks", "create", tenant, "--url", endpoint.url, "--event", "invoice.*", "-o", "json").json
    return tenant, made["id"]


def test_a_success(api: Command, endpoint: Endpoint, webhook: tuple[str, str]) -> None:
    """What came of it is on stdout, its attempts on stderr as they end; exit code 0."""
    said = api("webhooks", "test", *webhook, "--type", "user.deactivated", "-o", "json")
    assert (said.code, said.json["outcome"], said.json["type"]) == (0, "success", "user.deactivated")
    assert endpoint.marks == ["true"]
    assert said.err.startswith("attempt 1: delivered (200), ")
    assert said.err.count("\n") == 1


def test_a_failure(api: Command, endpoint: Endpoint, webhook: tuple[str, str]) -> None:
    """Three attempts, what to do about it, the error on the webhook, exit code 1."""
    endpoint.statuses = [500, 503, 404]
    said = api("webhooks", "test", *webhook)
    assert said.code == 1
    assert [line.partition(",")[0] for line in said.err.splitlines()] == [
        "attempt 1: rejected (500)",
        "attempt 2: rejected (503)",
        "attempt 3: rejected (404)",
    ]
    assert "client_error" in said.out
    assert "check the path of the URL" in said.out
    assert said.out.count("rejected") == 3
    state = api("webhooks", "show", *webhook, "-o", "json").json["state"]
    assert state["error"]["outcome"] == "client_error"


def test_a_refusal(api: Command, webhook: tuple[str, str]) -> None:
    """What the API refuses is one line and exit code 2."""
    assert api.refused("webhooks", "test", webhook[0], "wh_none") == "There is no such webhook."
    assert "no event of Standard" in api.refused("webhooks", "test", *webhook, "--type", "a b")


def test_an_api_that_is_not_there(api: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and exit code 1, as with any command."""
    monkeypatch.setenv("PIPELINE_API_URL", f"http://127.0.0.1:{closed_port()}")
    assert "does not answer" in api.refused("webhooks", "test", "t", "w", code=1)


def test_the_line_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is being done and gives way to the next; what has ended stays."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    outcome = {"outcome": "success"}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("progress", {"attempt": 2, "of": 3, "doing": "waiting", "seconds": 1.04}),
        ("progress", {"attempt": 2, "of": 3, "doing": "sending", "seconds": 0.0}),
        ("attempt", {"attempt": 2, "verdict": "timeout", "status_code": None, "duration_ms": 15_000}),
        ("outcome", outcome),
    ]
    assert follow(steps) == outcome
    shown = screen.getvalue()
    assert shown.index("attempt 2 of 3: waiting, 1 s") < shown.index("attempt 2 of 3: sending, 0 s")
    assert "attempt 2: timeout (no answer), 15000 ms\n" in shown
    assert "\x1b[2K" in shown


def test_a_stream_that_is_cut() -> None:
    """An API that ends in the middle is no success: the command says so."""
    with pytest.raises(PipelineError, match="has ended before the test did"):
        follow([("progress", {"attempt": 1, "of": 3, "doing": "sending", "seconds": 0.0})])


def test_any_text_of_an_answer_survives_the_stream(api: Command, webhook: tuple[str, str]) -> None:
    """Separators that some take for ends of lines are part of what an endpoint says."""
    (attempt,) = api("webhooks", "test", *webhook, "-o", "json").json["attempts"]
    assert attempt["response_body"] == BODY
