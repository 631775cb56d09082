from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from pipeline.cli._tail import start_of
from pipeline.errors import UsageError
from pipeline.flow.event import Event
from pipeline.kafka.ingest import EventIngest
from pipeline.kafka.publisher import Publisher
from pipeline.ports import Outgoing
from tests.live_cluster import LiveCluster
from tests.prepared import codec_of, prepared


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("-2h", 1_000_000_000_000 - 7_200_000),
        ("@1234", 1234),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600_000),
    ],
)
def test_a_start_is_written_in_four_ways(text: str, start: object) -> None:
    """An end of the log, a span before now, milliseconds, or a time."""
    assert start_of(text, now_s=1_000_000_000) == start


@pytest.mark.parametrize("text", ["", "-", "-2", "@", "@x", "soon", "2026-13-01"])
def test_any_other_start_is_refused(text: str) -> None:
    """What is none of them is refused with the choices."""
    with pytest.raises(UsageError, match="write earliest"):
        start_of(text)


async def test_events_of_both_kinds_are_followed(cluster: LiveCluster) -> None:
    """`events tail` shows envelopes and CloudEvents alike, filtered, and ends after the number that was asked for."""
    settings = prepared(cluster)
    publisher = Publisher(settings)
    async with codec_of(settings) as codec:
        ingest = EventIngest(codec, publisher)
        kinds = ("tail.a", "tail.b", "other")
        await ingest.publish([Event(kind, "tailed", kind, 1_769_860_800_000, '{"n":1}') for kind in kinds])
        await publisher.publish(Outgoing("events", b"tailed", b"\0\0\0\0\0torn"))
        await publisher.publish(_cloud_event(cluster.registry))
    await publisher.close()
    done = await asyncio.to_thread(
        subprocess.run,
        (
            *(sys.executable, "-m", "pipeline", "events", "tail", "--from", "earliest"),
            *("--tenant", "tailed", "--type", "tail.*", "--count", "3", "-o", "jsonl"),
            *("--bootstrap-server", cluster.bootstrap, "--schema-registry", cluster.registry),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = {event["id"]: event for event in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {"tail.a", "tail.b", "c1"}
    assert found["tail.a"]["data"] == {"n": 1}
    assert found["tail.a"]["time"] == "2026-01-31T12:00:00.000Z"
    assert found["c1"]["data"] == {"amount": 7}


def _cloud_event(registry: str) -> Outgoing:
    """A service's own record with CloudEvents headers."""
    schema = {"type": "record", "name": "Paid", "fields": [{"name": "amount", "type": "int"}]}
    with SchemaRegistryClient({"url": registry}) as client:
        number = client.register_schema("paid-value", Schema(json.dumps(schema), "AVRO"))
    out = io.BytesIO(struct.pack(">bI", 0, number))
    out.seek(5)
    fastavro.schemaless_writer(out, schema, {"amount": 7})
    attributes = {"specversion": "1.0", "id": "c1", "type": "tail.c", "source": "/s", "tenant": "tailed"}
    headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    return Outgoing("events", b"tailed", out.getvalue(), headers)
