"""Kafka or the registry is away, or slow, on a cluster of the module's own: nothing is lost, and all goes on by itself.

No process is restarted here: whatever was running when the trouble began must still be the one that ends it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema

from pipeline.embedded.addresses import claim
from pipeline.kafka import topics
from pipeline.settings import Settings
from tests.e2e import stages
from tests.e2e.flow import LADDER, Flow, Hook, running
from tests.leashed import leashed, told_to_stop
from tests.live_cluster import LiveCluster, live_cluster

pytestmark = pytest.mark.kafka
NOW_MS = 1_767_225_600_000
MIB = 1024 * 1024
CONNECTIONS, PATIENCE_S = 400, 40
ADMIN_KEY = "pressure-admin-key"
HTML = b"<html>Sign in to the network</html>"


class Gate:
    """Stands before the registry: lets everything through, or answers in its place, or not at all."""

    def __init__(self, registry: str) -> None:
        self._registry = registry.rstrip("/")
        self._answer: Callable[[], tuple[int, bytes]] | None = None
        self.asked = Flag()

    def open(self) -> None:
        """Let everything through."""
        self._answer = None

    def shut(self, answer: Callable[[], tuple[int, bytes]]) -> None:
        """Answer like this from now on; an exception closes the connection without an answer."""
        self.asked.clear()
        self._answer = answer

    def __call__(self, method: str, path: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
        """What a request gets."""
        if self._answer is not None:
            self.asked.set()
            return self._answer()
        request = Request(self._registry + path, body, {"Content-Type": kind} if kind else {}, method=method)  # noqa: S310 - loopback
        try:
            with urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()


@dataclass(frozen=True, slots=True)
class World:
    """The cluster, the gate before its registry, the flow over it, and the API's process."""

    cluster: LiveCluster
    gate: Gate
    flow: Flow
    folder: Path
    variables: dict[str, str]
    api: str
    api_pid: int


@contextmanager
def _gate(registry: str) -> Iterator[tuple[Gate, str]]:
    base, _, path = registry.removeprefix("http://").partition("/")
    gate = Gate(f"http://{base}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Pass it on."""
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size) if size else None
            status, said = gate(self.command, self.path, body, self.headers.get("Content-Type", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names are the standard library's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The connection is closed; the client will say."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield gate, f"http://127.0.0.1:{server.server_port}/{path}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pressure")
    with live_cluster(tmp_path_factory.mktemp("pressed")) as cluster, _gate(cluster.registry) as (gate, registry):
        key = f"test:{base64.b64encode(os.urandom(32)).decode()}"
        settings = Settings(cluster.bootstrap, registry, encryption_keys=key, ladder=LADDER, egress_allow="127.0.0.0/8")
        settings = replace(settings, data_dir=folder, instance_id="pressure", admin_key=ADMIN_KEY)
        variables = {
            "PIPELINE_BOOTSTRAP_SERVERS": cluster.bootstrap,
            "PIPELINE_SCHEMA_REGISTRY": registry,
            "PIPELINE_ENCRYPTION_KEYS": key,
            "PIPELINE_ADMIN_KEY": ADMIN_KEY,
            "PIPELINE_DATA_DIR": str(folder),
            "PIPELINE_LADDER": LADDER,
        }
        with running(settings, folder) as flow, _api(variables, folder) as (url, pid):
            yield World(cluster, gate, flow, folder, variables, url, pid)


@contextmanager
def _api(variables: dict[str, str], folder: Path) -> Iterator[tuple[str, int]]:
    port = claim(0, "api", "")
    command = stages.command("run", "api", "--port", str(port))
    with leashed("api", command, folder, stages.bare(variables, folder)) as child:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while not _answers(url):
            assert child.code() is None, child.last_words(20)
            assert time.monotonic() < until, child.last_words(20)
            time.sleep(0.05)
        yield url, _worker(child.process.pid)
        told_to_stop(child, 40)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _worker(pid: int) -> int:
    """The process that does the work: the last child in the line that a leash makes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return _worker(int(children[0])) if children else pid


def until(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    """Return as soon as it is so."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not so after {within_s} s: {what}"
        time.sleep(0.02)


def _hang() -> tuple[int, bytes]:
    time.sleep(7)  # longer than a client waits
    raise ConnectionAbortedError


def _cut() -> tuple[int, bytes]:
    raise ConnectionAbortedError


TROUBLES: dict[str, Callable[[], tuple[int, bytes]]] = {
    "it closes the connection": _cut,
    "it hangs": _hang,
    "it is overloaded": lambda: (503, HTML),
    "its password has changed": lambda: (401, b'{"error_code": 401, "message": "no"}'),
    "it forbids": lambda: (403, HTML),
    "a page answers in its place": lambda: (200, HTML),
    "a page is not found in its place": lambda: (404, HTML),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_schema_that_the_registry_cannot_tell_now(world: World, trouble: str) -> None:
    """While the registry tells nothing about a new schema the router waits and says so; then the event arrives."""
    flow, hook = world.flow, world.flow.hook()
    schema = {"type": "record", "name": f"R{secrets.token_hex(6)}", "fields": [{"name": "n", "type": "long"}]}
    number = flow.codec.client.register_schema(f"{schema['name']}-value", Schema(json.dumps(schema), "AVRO"))
    try:
        world.gate.shut(TROUBLES[trouble])
        _write_cloud_event(flow, hook, struct.pack(">bI", 0, number) + b"\x0e")
        until(lambda: "registry" in str(flow.stages["router"].troubles()), "readiness says what the router waits for")
        assert not hook.receiver.requests(hook.path)
    finally:
        world.gate.open()
    (got,) = flow.accepted(hook)
    assert json.loads(got.body)["data"] == {"n": 7}
    until(lambda: not flow.stages["router"].troubles(), "the router is ready again")
    assert not flow.dead.read(lambda letter: letter["topic"] == topics.EVENTS)


def _write_cloud_event(flow: Flow, hook: Hook, value: bytes) -> None:
    attributes = {"specversion": "1.0", "id": "e", "type": "a.b", "source": "s", "tenant": hook.tenant.id}
    producer = Producer({"bootstrap.servers": flow.settings.bootstrap_servers})
    headers: list[tuple[str, Any]] = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    producer.produce(topics.EVENTS, value, b"k", headers=headers)
    assert producer.flush(30) == 0


def test_roles_that_start_while_the_registry_is_down(world: World) -> None:
    """Every role waits for the registry at its start, says so, and starts by itself when it is there."""
    variables = {**world.variables, "PIPELINE_INSTANCE_ID": "late", "PIPELINE_EGRESS_ALLOW": "127.0.0.0/8"}
    with ExitStack() as stack:
        stack.callback(world.gate.open)
        world.gate.shut(_cut)
        late = [
            stack.enter_context(stages.started(role, variables, world.folder, f"late-{role}"))
            for role in world.flow.stages
        ]
        until(lambda: all("registry" in str(one.troubles()) for one in late), "they say what they wait for")
        world.gate.open()
        until(lambda: not any(one.troubles() for one in late), "they are ready")


@dataclass(frozen=True, slots=True)
class Ingest:
    """Events over REST, for one tenant."""

    client: httpx.AsyncClient
    tenant: str

    async def post(self, ident: str, data: str = "{}") -> httpx.Response:
        """One event."""
        content = f'{{"id":"{ident}","type":"a.b","data":{data}}}'
        return await self.client.post(f"/v1/tenants/{self.tenant}/events", content=content)

    async def until_taken(self, ident: str) -> None:
        """The same event, again and again, as a client does that gets 503."""
        end = time.monotonic() + 60
        while (answer := await self.post(ident)).status_code != httpx.codes.ACCEPTED:
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            assert time.monotonic() < end, answer.text
            await asyncio.sleep(0.2)


def client(world: World) -> httpx.AsyncClient:
    """A client with the platform's key."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return httpx.AsyncClient(base_url=world.api, headers=headers, timeout=60, limits=limits)


def is_problem(answer: httpx.Response) -> bool:
    """503 in the words that clients know."""
    said = answer.headers["content-type"], answer.status_code, answer.json()["status"]
    return said == ("application/problem+json", 503, 503) and "retry-after" in answer.headers


async def test_the_broker_is_killed_and_comes_back(world: World) -> None:
    """Without a broker a flood of events and a change get 503, in time and bounded memory.

    What was accepted before and after arrives, by processes that were not restarted.
    """
    flow, hook = world.flow, world.flow.hook()
    tenant = {"id": f"t-{secrets.token_hex(4)}", "name": "T", "profile": "standard"}
    before, after = ([f"{when}-{number}" for number in range(20)] for when in ("before", "after"))
    async with client(world) as http:
        ingest = Ingest(http, hook.tenant.id)
        assert {answer.status_code for answer in await asyncio.gather(*map(ingest.post, before))} == {202}
        await asyncio.to_thread(world.cluster.kill_broker)
        await _refused(world, ingest, tenant)
        await asyncio.to_thread(world.cluster.start_broker)
        await asyncio.gather(*map(ingest.until_taken, after))
        await _until_made(http, tenant)
    wanted = {*before, *after}
    found = lambda one: one["verdict"] == "delivered" and one["tenant"] == hook.tenant.id and one["event"] in wanted  # noqa: E731
    await asyncio.to_thread(flow.attempts.until, found, len(wanted), 60)
    assert {one["event"] for one in flow.attempts.read(found)} == wanted
    ready = [stage.troubles for stage in flow.stages.values()]
    await asyncio.to_thread(until, lambda: not any(troubles() for troubles in ready), "all are ready again")


async def _refused(world: World, ingest: Ingest, tenant: dict[str, str]) -> None:
    """Half a gigabyte of events and a change: 503 for each in time, and the API says that it is not ready."""
    resident, free = _memory(world.api_pid, "VmRSS"), asyncio.Semaphore(CONNECTIONS)
    data = '"' + "x" * 250_000 + '"'

    async def took(sent: Callable[[], Awaitable[httpx.Response]]) -> float:
        async with free:  # the client's own queue for connections would take longer than the answers
            started = time.monotonic()
            answer = await sent()
            assert is_problem(answer), answer.text
            return time.monotonic() - started

    flood = [took(partial(ingest.post, f"flood-{number}", data)) for number in range(2_000)]
    times = await asyncio.gather(took(partial(ingest.client.post, "/v1/tenants", json=tenant)), *flood)
    assert max(times) < PATIENCE_S
    assert _memory(world.api_pid, "VmHWM") - resident < 350 * MIB
    assert (await ingest.client.get("/readyz")).status_code == 503


async def _until_made(http: httpx.AsyncClient, tenant: dict[str, str]) -> None:
    """Changes are made again; the one before may have been made, which is then told."""
    end = time.monotonic() + 60
    while (answer := await http.post("/v1/tenants", json=tenant)).status_code not in {201, 409}:
        assert is_problem(answer), answer.text
        assert time.monotonic() < end, answer.text
        await asyncio.sleep(0.2)


def _memory(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(what)]
    return int(line.split()[1]) * 1024
