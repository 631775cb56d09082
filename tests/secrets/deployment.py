"""A whole deployment of canaries: `pipeline up` at its most talkative, and everything that it says and keeps."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.cli.started import Started, fields, started
from tests.secrets.canaries import Hunt, Place
from tests.secrets.endpoints import Endpoints

WITHIN_S = 60.0
LADDER = "retry-5s=150ms retry-60s=50ms"
KEPT_BY_DESIGN = {"api.json": {"admin key"}, "encryption.keys": set[str](), "admin.key": set[str]()}
"""Files that hold keys, readable by their owner alone."""
_NO_CONTENT = {".index", ".timeindex", ".snapshot"}
"""Kafka's files of offsets and times, each 10 MiB of holes."""


@dataclass
class Answers:
    """The API, and each of its answers, with what it may show."""

    client: httpx.Client
    places: list[Place] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, shows: tuple[str, ...] = (), **more: Any) -> httpx.Response:
        """Any answer."""
        given = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        answer = self.client.request(method, path, **given, **more)
        held = answer.content + repr(answer.headers).encode()
        self.places.append(Place(f"{method} {path}: {answer.status_code}", held, frozenset(shows)))
        return answer

    def good(self, method: str, path: str, body: Any = None, shows: tuple[str, ...] = ()) -> Any:
        """The decoded answer, which must be a success."""
        answer = self.ask(method, path, body, shows)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@dataclass
class Deployment:
    """What runs, in which folder, and the canaries that it was given."""

    running: Started
    place: dict[str, str]
    api: Answers
    hunt: Hunt

    def processes(self) -> Iterator[Place]:
        """The arguments of each process, as all users of the machine can see them."""
        for one in self.running.family():
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                yield Place(f"arguments of {one.pid}", Path(f"/proc/{one.pid}/cmdline").read_bytes())

    def told(self) -> Iterator[Place]:
        """Metrics and readiness of every process."""
        for one in self.running.family():
            port = re.search(r"--(?:health-)?port (\d+)", " ".join(one.cmdline()))
            for path in ("metrics", "readyz", "healthz") if port and "run" in one.cmdline() else ():
                answer = httpx.get(f"http://127.0.0.1:{port[1]}/{path}", trust_env=False, timeout=30)  # type: ignore[index]
                yield Place(f"/{path} of {one.cmdline()[4:]}", answer.content)

    def topics(self) -> Iterator[Place]:
        """Each record of each topic as it lies there."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.place["bootstrap"],
                "group.id": "hunt",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        try:
            topics = consumer.list_topics(timeout=10).topics
            names = [name for name in topics if name != "__consumer_offsets"]
            wanted = [TopicPartition(name, number, 0) for name in names for number in topics[name].partitions]
            held: dict[str, list[bytes]] = {name: [] for name in names}
            for topic, record in _records(consumer, wanted):
                held[topic].append(record)
            yield from (Place(f"topic {name}", b"\n".join(records)) for name, records in held.items())
        finally:
            consumer.close()

    def files(self) -> Iterator[Place]:
        """The data directory: logs of all processes, Kafka's and the registry's own files, the delivery log."""
        folder = Path(self.place["data"])
        for file in folder.rglob("*"):
            if file.is_file() and file.suffix not in _NO_CONTENT:
                allowed = KEPT_BY_DESIGN.get(file.name, set())
                if file.name in KEPT_BY_DESIGN:
                    assert file.stat().st_mode & 0o777 == 0o600, file
                yield Place(str(file.relative_to(folder)), file.read_bytes(), frozenset(allowed))
        yield Place("what `up` said", "\n".join(self.running.out + self.running.err).encode())
        yield from _cells(folder / "log.sqlite")

    def restart_api(self) -> None:
        """Its process ends, and `up` starts another one, which reads its settings anew."""
        (api,) = (one for one in self.running.family() if one.cmdline()[2:5] == ["pipeline", "run", "api"])
        api.terminate()
        api.wait(30)
        until(self._answers, "an API after the restart")

    def _answers(self) -> bool:
        try:
            return self.api.client.get("/readyz").is_success
        except httpx.TransportError:
            return False


def until(look: Callable[[], Any], what: str) -> Any:
    """What was looked for, once it is there."""
    end = time.monotonic() + WITHIN_S
    while not (found := look()):
        assert time.monotonic() < end, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def deployed(folder: Path, hunt: Hunt, there: Endpoints, keys: Path) -> Iterator[Deployment]:
    """`pipeline up` over that folder, with the encryption keys of a file and all other secrets that there may be."""
    held = hunt.canaries
    proxy = held["proxy password"].values[0].decode()
    variables = {
        "PIPELINE_ADMIN_KEY": held["admin key"].values[0].decode(),
        "PIPELINE_ENCRYPTION_KEYS_FILE": str(keys),
        "PIPELINE_SCHEMA_REGISTRY_AUTH": "registry:" + held["registry password"].values[0].decode(),
        "PIPELINE_EGRESS_PROXY": f"http://proxy:{proxy}@127.0.0.1:{there.proxy}",
        "PIPELINE_KAFKA_SASL_PASSWORD": held["Kafka password"].values[0].decode(),
        "PIPELINE_EGRESS_CA": str(there.ca_file),
        "PIPELINE_LADDER": LADDER,
        "PIPELINE_LOG_LEVEL": "debug",
    }
    with started("up", "--data-dir", str(folder), **variables) as running:
        place = fields(running.until("out", bool))
        key = {"Authorization": f"Bearer {variables['PIPELINE_ADMIN_KEY']}"}
        with httpx.Client(base_url=place["api"], headers=key, timeout=60, trust_env=False) as client:
            yield Deployment(running, place, Answers(client), hunt)
        assert running.stop() == 0
        running.rest("out")
        running.rest("err")


def new_key(hunt: Hunt, name: str) -> str:
    """An encryption key of that id, as the setting takes it."""
    return f"{name}:{hunt.add_bytes(f'encryption key {name}', os.urandom(32))}"


def whsec() -> str:
    """A customer's own shared secret."""
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def _records(consumer: Consumer, wanted: list[TopicPartition]) -> Iterator[tuple[str, bytes]]:
    """Key, value and headers of each record, by topic, to where each partition ends."""
    consumer.assign(wanted)
    left = {(one.topic, one.partition) for one in wanted}
    end = time.monotonic() + WITHIN_S
    while left:
        assert time.monotonic() < end, f"not read within {WITHIN_S} s: {left}"
        for message in consumer.consume(500, 0.5):
            topic = message.topic() or ""
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()  # type: ignore[union-attr]
                left.discard((topic, message.partition() or 0))
            else:
                headers = repr(message.headers()).encode()
                yield topic, b"\n".join((message.key() or b"", message.value() or b"", headers))


def _cells(file: Path) -> Iterator[Place]:
    """Each value of the delivery log: on its pages a long one may lie in pieces."""
    connection = sqlite3.connect(file)
    try:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608 - the log's own names
            cells = (cell for row in rows for cell in row)
            held = b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)
            yield Place(f"table {table}", held)
    finally:
        connection.close()
