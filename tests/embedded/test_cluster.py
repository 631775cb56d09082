"""The real broker and registry, in directories of their own: what survives, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.embedded import EmbeddedCluster, EmbeddedError
from pipeline.embedded.addresses import free_port
from pipeline.embedded.datadir import DataDir
from tests.live_cluster import LiveCluster
from tests.processes import end

pytestmark = pytest.mark.kafka

RUN = """
import asyncio, json, sys
from pathlib import Path
from pipeline.embedded import EmbeddedCluster
async def main():
    async with EmbeddedCluster(Path(sys.argv[1])) as cluster:
        print(json.dumps([cluster.bootstrap, cluster.registry, cluster.pids]), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def running(data_dir: Path) -> Iterator[tuple[str, str, dict[str, int]]]:
    """A run in a process of its own, killed with -9 at the end: its bootstrap server, registry and children."""
    command = [sys.executable, "-c", RUN, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        try:
            bootstrap, registry, pids = json.loads(run.stdout.readline())
            yield bootstrap, registry, pids
        finally:
            run.kill()


def schema(field: str) -> str:
    """A registration of a record with one field that has no default."""
    record = {"type": "record", "name": "Record", "fields": [{"name": field, "type": "int"}]}
    return json.dumps({"schema": json.dumps(record)})


def ask(url: str, method: str = "GET", body: str | None = None) -> Any:
    data = body.encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own registry
        return json.load(answer)


def create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    config = {"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    values = [message.value() for message in consumer.consume(count, timeout=20)]
    consumer.close()
    return values


def test_records_and_schemas_survive_a_kill(tmp_path: Path) -> None:
    """A run killed with -9 takes broker and registry with it; the next one, on other ports, has all that was acked."""
    with running(tmp_path / "data") as (bootstrap, registry, pids):
        create(bootstrap, "kept")
        produce(bootstrap, "kept", b"1", b"2")
        registered = ask(f"{registry}/subjects/kept-value/versions", "POST", schema("a"))
        children = [psutil.Process(pid) for pid in pids.values()]
    assert end(children)
    with running(tmp_path / "data") as (other_bootstrap, registry, _pids):
        assert other_bootstrap != bootstrap
        assert consume(other_bootstrap, "kept", 2) == [b"1", b"2"]
        assert ask(f"{registry}/subjects/kept-value/versions/latest")["id"] == registered["id"]


async def test_a_directory_in_use_is_refused(cluster: LiveCluster) -> None:
    """A second run on the same directory is told who has it, before anything is started."""
    with pytest.raises(EmbeddedError, match=rf"is locked by pid {os.getpid()}: another run uses it"):
        async with EmbeddedCluster(cluster.data_dir):
            pass
    assert set(cluster.pids) == {"kafka", "registry"}


async def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """A fixed port that another program has is named, before anything is started, and the directory is free again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"Port {port} for the registry is taken"):
            async with EmbeddedCluster(tmp_path, registry_port=port):
                pass
    directory = DataDir(tmp_path)
    await directory.lock()
    directory.unlock()


async def test_a_broker_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """When Kafka ends at once, the message holds its log's last lines, and the registry ends too."""
    (tmp_path / "kafka" / "records").mkdir(parents=True)
    (tmp_path / "kafka" / "records" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=x\n")
    cluster = EmbeddedCluster(tmp_path)
    with pytest.raises(EmbeddedError, match=r"kafka ended at once \(exit code 1\).*kafka\.log(.|\n)*node"):
        async with cluster:
            pass
    assert cluster.pids == {}


async def test_a_broker_that_dies_comes_back(tmp_path: Path) -> None:
    """A broker that ends by itself is started again, on the same port and with its records, and this is said."""
    said: list[str] = []
    ended = asyncio.Event()

    def hear(line: str) -> None:
        said.append(line)
        if "starting it again" in line:
            ended.set()

    port = free_port()
    async with EmbeddedCluster(tmp_path, kafka_port=port, on_progress=hear) as cluster:
        assert cluster.bootstrap == f"127.0.0.1:{port}"
        create(cluster.bootstrap, "kept")
        produce(cluster.bootstrap, "kept", b"1")
        os.kill(cluster.pids["kafka"], signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 10)
        assert await asyncio.to_thread(consume, cluster.bootstrap, "kept", 1) == [b"1"]
    assert said[-1].startswith("kafka ended (killed by SIGKILL); starting it again in 1 s. Log: ")


async def test_a_broker_killed_on_purpose_stays_dead(tmp_path: Path) -> None:
    """`kill_broker` leaves it dead until `start_broker`, which keeps address and records."""
    async with EmbeddedCluster(tmp_path) as cluster:
        bootstrap = cluster.bootstrap
        create(bootstrap, "kept")
        produce(bootstrap, "kept", b"1")
        await cluster.kill_broker()
        assert set(cluster.pids) == {"registry"}
        await cluster.start_broker()
        assert cluster.bootstrap == bootstrap
        assert await asyncio.to_thread(consume, bootstrap, "kept", 1) == [b"1"]


def test_incompatible_schemas_are_refused(cluster: LiveCluster) -> None:
    """The registry refuses a schema that readers of the older records could not be given."""
    ask(f"{cluster.registry}/subjects/strict-value/versions", "POST", schema("a"))
    with pytest.raises(urllib.error.HTTPError, match="409"):
        ask(f"{cluster.registry}/subjects/strict-value/versions", "POST", schema("b"))


def test_everything_listens_on_loopback_alone(cluster: LiveCluster) -> None:
    """No port of broker or registry can be reached from another machine."""
    listening = [
        connection.laddr.ip
        for pid in cluster.pids.values()
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_the_broker_makes_no_topic_unasked(cluster: LiveCluster) -> None:
    """A misspelt topic is an error, not a new topic."""
    topics = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics("misspelt", timeout=10).topics
    assert topics["misspelt"].error == KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
