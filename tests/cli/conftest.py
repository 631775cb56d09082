from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from pipeline.api.app import create_app
from pipeline.cli import invoke
from tests.api.parts import Parts, memory_parts
from tests.prepared import ADMIN_KEY


@dataclass
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which must be JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its output, which must be a JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Command:
    """`pipeline`, in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Said:
        """What comes of these arguments."""
        code = invoke(list(arguments))
        out, err = self.capture.readouterr()
        return Said(code, out, err)

    def refused(self, *arguments: str, code: int = 2) -> str:
        """The one line on stderr of a command that must end with `code` and write nothing else."""
        said = self(*arguments)
        assert (said.code, said.out) == (code, "")
        assert said.err.startswith("pipeline: ")
        assert said.err.count("\n") == 1
        return said.err.strip().removeprefix("pipeline: ")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Command:
    """The command line in a folder of its own, without settings from the environment."""
    for name in ("API_URL", "API_KEY", "API_KEY_FILE", "DATA_DIR", "WEBHOOK_SECRET"):
        monkeypatch.delenv(f"PIPELINE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Command(capsys)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Parts]]:
    """An API on a port of its own, and its parts in memory."""
    with serving(lambda _: memory_parts()) as running:
        yield running


@contextmanager
def serving(make: Callable[[AsyncExitStack], Parts]) -> Iterator[tuple[str, Parts]]:
    """An API on a port of its own, of parts that are made in its own event loop."""
    parts: list[Parts] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.listen()
        servers: list[uvicorn.Server] = []
        made = threading.Event()

        async def serve() -> None:
            async with AsyncExitStack() as stack:
                parts.append(make(stack))
                config = uvicorn.Config(create_app(parts[0].deps), log_config=None, lifespan="off")
                servers.append(uvicorn.Server(config))
                made.set()
                await servers[0].serve([listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        made.wait(10)
        try:
            yield url, parts[0]
        finally:
            servers[0].should_exit = True
            thread.join()
            parts[0].deps.log.close()


@pytest.fixture
def api(served: tuple[str, Parts], command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line with that API in its environment."""
    monkeypatch.setenv("PIPELINE_API_URL", served[0])
    monkeypatch.setenv("PIPELINE_API_KEY", ADMIN_KEY)
    return command
