from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.embedded import EmbeddedError, Role, Supervisor
from pipeline.embedded.addresses import free_port
from pipeline.embedded.keeper import PAUSES, how
from tests.processes import end

SERVER = """
import http.server, os, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
print("serving", os.environ["SLOT"], file=sys.stderr, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


class Told:
    """What the supervisor told, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, line: str) -> None:
        """Hear one sentence."""
        self.lines.append(line)
        self._changed.set()

    async def until(self, enough: Callable[[list[str]], bool]) -> None:
        """Wait until what was told is enough."""
        async with asyncio.timeout(20):
            while not enough(self.lines):
                self._changed.clear()
                await self._changed.wait()


def server(name: str, slot: str = "0") -> Role:
    port = free_port()
    return Role(name, [sys.executable, "-c", SERVER, str(port)], port, {"SLOT": slot})


def ending(name: str, code: str) -> Role:
    return Role(name, [sys.executable, "-c", code], free_port())


async def test_roles_run_until_they_are_left(tmp_path: Path) -> None:
    """All roles become ready, each with its own environment and log, and all end with the supervisor."""
    told = Told()
    roles = [server("sender-0", "a"), server("sender-1", "b")]
    async with Supervisor(roles, tmp_path, on_event=told) as supervisor:
        await supervisor.wait_ready(20)
        processes = [psutil.Process(pid) for pid in supervisor.pids.values()]
        assert list(supervisor.pids) == ["sender-0", "sender-1"]
    assert end(processes, within=0)
    assert (tmp_path / "sender-0.log").read_text().startswith("serving a\n")
    assert (tmp_path / "sender-1.log").read_text().startswith("serving b\n")
    assert told.lines == []


async def test_a_role_that_dies_is_started_again(tmp_path: Path) -> None:
    """A killed role comes back under another pid, and this is said with where its log is."""
    told = Told()
    async with Supervisor([server("sender-0")], tmp_path, on_event=told, pauses=[0.01]) as supervisor:
        await supervisor.wait_ready(20)
        old = psutil.Process(supervisor.pids["sender-0"])
        old.kill()
        await told.until(bool)
        await supervisor.wait_ready(20)
        assert supervisor.pids["sender-0"] != old.pid
    expected = f"sender-0 ended (killed by SIGKILL); starting it again in 0.01 s. Log: {tmp_path}/sender-0.log"
    assert told.lines == [expected]


async def test_the_pause_grows(tmp_path: Path) -> None:
    """A role that keeps ending is started again after longer and longer pauses, up to the longest."""
    told = Told()
    role = ending("router-0", "raise SystemExit(1)")
    async with Supervisor([role], tmp_path, on_event=told, pauses=[0.01, 0.02, 0.03]):
        await told.until(lambda lines: len(lines) == 4)
    assert [line.split(" in ")[1].split(" s.")[0] for line in told.lines] == ["0.01", "0.02", "0.03", "0.03"]
    assert told.lines[0].startswith("router-0 ended (exit code 1)")


async def test_a_long_life_makes_the_pause_short_again(tmp_path: Path) -> None:
    """A role that lived long enough counts as one that never ended before."""
    told = Told()
    role = ending("router-0", "raise SystemExit(1)")
    async with Supervisor([role], tmp_path, on_event=told, pauses=[0.01, 60.0], settled=0.0):
        await told.until(lambda lines: len(lines) == 3)
    assert all(" in 0.01 s." in line for line in told.lines)


async def test_what_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """When a dead role cannot be started for the moment, that is said, and it comes back once it can."""
    told = Told()
    async with Supervisor([server("sender-0")], tmp_path / "logs", on_event=told, pauses=[0.01, 0.02]) as supervisor:
        await supervisor.wait_ready(20)
        (tmp_path / "logs").rename(tmp_path / "away")
        (tmp_path / "logs").write_text("a file where the folder was")
        psutil.Process(supervisor.pids["sender-0"]).kill()
        await told.until(lambda lines: len(lines) >= 4)
        (tmp_path / "logs").unlink()
        await supervisor.wait_ready(20)
        assert supervisor.pids
    assert [line.partition("; ")[2] for line in told.lines[1:4]] == [
        f"trying again in {s} s." for s in (0.01, 0.02, 0.02)
    ]
    assert told.lines[1].startswith("sender-0 cannot be started (")


def test_the_pauses_in_force() -> None:
    """The first restart comes after a second, and none later than half a minute after an end."""
    assert PAUSES == (1, 2, 4, 8, 16, 30)


async def test_a_fenced_role_stays_down(tmp_path: Path) -> None:
    """A role that ends because a newer process took its place (exit code 78) is not started again."""
    told = Told()
    async with Supervisor([ending("api-0", "raise SystemExit(78)")], tmp_path, on_event=told) as supervisor:
        await told.until(bool)
        assert (supervisor.pids, supervisor.fenced) == ({}, ("api-0",))
        with pytest.raises(EmbeddedError, match="Not ready within 20 s: api-0"):
            await supervisor.wait_ready(20)
    assert told.lines == ["api-0 ended: a newer process has taken its place. It is not started again."]


async def test_who_is_late_is_named(tmp_path: Path) -> None:
    """Waiting for readiness ends with the names, and the logs, of those that are not ready."""
    late = ending("delay-0", "import time; time.sleep(600)")
    async with Supervisor([server("sender-0"), late], tmp_path, on_event=Told()) as supervisor:
        with pytest.raises(EmbeddedError, match=rf"Not ready within 2 s: delay-0\. See {tmp_path}/delay-0.log"):
            await supervisor.wait_ready(2)


async def test_a_role_that_will_not_drain_is_killed(tmp_path: Path) -> None:
    """After the grace, what still runs is killed."""
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVER}"
    port = free_port()
    role = Role("sender-0", [sys.executable, "-c", stubborn, str(port)], port, {"SLOT": "0"})
    async with Supervisor([role], tmp_path, on_event=Told(), grace=0.1) as supervisor:
        await supervisor.wait_ready(20)
        process = psutil.Process(supervisor.pids["sender-0"])
    assert end([process], within=0)


async def test_a_killed_role_stays_dead(tmp_path: Path) -> None:
    """A role that is killed on purpose is not started again."""
    told = Told()
    async with Supervisor([server("sender-0")], tmp_path, on_event=told) as supervisor:
        await supervisor.wait_ready(20)
        await supervisor.kill("sender-0")
        assert supervisor.pids == {}
    assert told.lines == []


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (-signal.SIGKILL, "killed by SIGKILL"), (-250, "killed by signal 250")]
)
def test_an_end_in_words(code: int, words: str) -> None:
    """Exit codes and signals are told in words."""
    assert how(code) == words
