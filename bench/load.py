"""Events at steady rates, from a thread: each stream of them begins and ends when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Producer

from bench.rig import Rig
from pipeline.kafka import topics
from pipeline.kafka.clients import producer_config

_TICK_S = 0.01
"""A load of single events every millisecond or two would measure mostly what so many small batches cost the broker."""


@dataclass(slots=True)
class Stream:
    """Events for these tenants in turn, so many a second."""

    tenants: Sequence[str]
    rate: float
    since: float = field(default_factory=time.perf_counter)
    sent: int = 0

    def due(self) -> range:
        """The numbers of the events whose moment has come."""
        first, self.sent = self.sent, int((time.perf_counter() - self.since) * self.rate)
        return range(first, self.sent)


@dataclass(slots=True)
class Load:
    """The streams that flow at present, by name."""

    flow: Rig
    streams: dict[str, Stream] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[Load]:
        """For as long as the `with` lasts."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        producer = Producer(producer_config(self.flow.settings, linger_ms=1))
        while not stop.wait(_TICK_S):
            for stream in tuple(self.streams.values()):
                for number in stream.due():
                    tenant = stream.tenants[number % len(stream.tenants)]
                    producer.produce(topics.EVENTS, self.flow.event(tenant, number))
            producer.poll(0)
        producer.flush(60)
