"""A producer: writes down each event, sends it, writes down that it was acknowledged. Stops at SIGTERM.

`python -m tests.faults.producer kafka|api LEDGER PREFIX RATE TENANT…`: `kafka` with the registry's stock serializer and
acks=all, `api` over REST in small batches. Where is told by `BOOTSTRAP` and `REGISTRY`, or `API` and `API_KEY`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.faults.ledger import append, digest

TYPE = "fault.tried"
_TICK_S = 0.02
_BATCH = 20
_PATIENCE_S = 15.0
_SCHEMA = Path(__file__).parents[2] / "schemas" / "event.avsc"


@dataclass(slots=True)
class Book:
    """One producer's side of the ledger; the ids are `PREFIX-NUMBER`."""

    file: int
    prefix: str
    tenants: Sequence[str]
    random: random.Random
    count: int = 0

    def attempt(self) -> dict[str, str]:
        """A new event for one of the tenants, written down."""
        self.count += 1
        event, tenant = f"{self.prefix}-{self.count}", self.random.choice(self.tenants)
        data = json.dumps({"id": event, "tenant": tenant, "pad": "x" * self.random.randrange(500)})
        self._write("+", event, tenant, digest(data.encode()), _now_ms())
        return {"id": event, "tenant": tenant, "data": data}

    def acked(self, event: str) -> None:
        """It has been acknowledged."""
        self._write("=", event, _now_ms())

    def _write(self, *fields: object) -> None:
        os.write(self.file, ("\t".join(map(str, fields)) + "\n").encode())


@dataclass(slots=True)
class ToKafka:
    """A service with stock parts. Its records wait for their broker as long as it takes."""

    book: Book
    bootstrap: str
    registry: str
    serialize: AvroSerializer = field(init=False)
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        client = SchemaRegistryClient({"url": self.registry, "timeout": 10})
        self.serialize = AvroSerializer(client, _SCHEMA.read_text(), conf={"auto.register.schemas": False})
        safe = {"acks": "all", "enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 2}
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "client.id": "faults", **safe})

    def send(self, count: int) -> None:
        """Produce so many events; collect what has been acknowledged."""
        for _ in range(count):
            event = self.book.attempt()
            value = self.serialize(
                {**event, "type": TYPE, "time": _now_ms(), "actor": None, "subject": None, "source": None},
                SerializationContext("events", MessageField.VALUE),
            )
            self.producer.produce("events", value, event["tenant"], on_delivery=self._report(event["id"]))
        self.producer.poll(0)

    def end(self) -> None:
        """Wait for the acknowledgements that are still to come."""
        if self.producer.flush(60):
            raise SystemExit("the broker has not acknowledged everything within 60 s")

    def _report(self, event: str) -> Callable[[KafkaError | None, object], None]:
        def reported(error: KafkaError | None, _message: object) -> None:
            if error is None:
                self.book.acked(event)

        return reported


@dataclass(slots=True)
class ToApi:
    """A service that sends batches over REST. What is not answered is left unknown, never sent again."""

    book: Book
    url: str
    key: str
    waiting: int = 0

    def send(self, count: int) -> None:
        """Post a batch when there are enough of them."""
        self.waiting += count
        if self.waiting >= _BATCH:
            self.waiting = 0
            self._post(_BATCH)

    def end(self) -> None:
        """Nothing is under way."""

    def _post(self, count: int) -> None:
        batch = [self.book.attempt() for _ in range(count)]
        by_tenant: dict[str, list[dict[str, str]]] = {}
        for event in batch:
            by_tenant.setdefault(event["tenant"], []).append(event)
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_PATIENCE_S)
        try:
            for tenant, events in by_tenant.items():
                self._post_of(connection, tenant, events)
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)  # nobody is there: what was sent is unknown
        finally:
            connection.close()

    def _post_of(self, connection: http.client.HTTPConnection, tenant: str, events: list[dict[str, str]]) -> None:
        listed = ",".join(f'{{"id":"{one["id"]}","type":"{TYPE}","data":{one["data"]}}}' for one in events)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", f"/v1/tenants/{tenant}/events", f'{{"events":[{listed}]}}', headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        for item in told.get("items", ()):
            if item["status"] == http.HTTPStatus.ACCEPTED:
                self.book.acked(item["id"])


def main(kind: str, ledger: str, prefix: str, rate: str, *tenants: str) -> None:
    """Send at an even pace until told to stop."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    book = Book(append(Path(ledger)), prefix, tenants, random.Random(prefix))  # noqa: S311 - a load, no secret
    env = os.environ
    to: ToKafka | ToApi
    to = (
        ToKafka(book, env["BOOTSTRAP"], env["REGISTRY"]) if kind == "kafka" else ToApi(book, env["API"], env["API_KEY"])
    )
    due, since = 0.0, time.monotonic()
    while not told:
        now = time.monotonic()
        due, since = min(due + (now - since) * float(rate), float(rate)), now
        to.send(int(due))
        due -= int(due)
        time.sleep(_TICK_S)
    to.end()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(*sys.argv[1:])
