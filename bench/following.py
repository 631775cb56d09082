"""Reads topics from outside: as they grow, or once to their ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition

from pipeline.kafka.clients import consumer_config
from pipeline.settings import Settings

_STEP = 2_000


@dataclass(frozen=True, slots=True)
class Follower:
    """Shows `note` every record of the topics, from their beginnings."""

    settings: Settings
    names: tuple[str, ...]
    note: Callable[[Message], None]

    @contextmanager
    def following(self) -> Iterator[None]:
        """In a thread of its own, for as long as the `with` lasts."""
        stop = threading.Event()
        thread = threading.Thread(target=self._follow, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def read(self) -> None:
        """All that is there now."""
        consumer, places = self._open()
        left = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}
        until = time.monotonic() + 120
        while any(p.offset < left[p.topic, p.partition] for p in consumer.position(places)):
            if time.monotonic() > until:
                raise TimeoutError(f"{', '.join(self.names)}: not read to the end")
            self._take(consumer)
        consumer.close()

    def _follow(self, stop: threading.Event) -> None:
        consumer, _ = self._open()
        while not stop.is_set():
            self._take(consumer)
        consumer.close()

    def _open(self) -> tuple[Consumer, list[TopicPartition]]:
        consumer = Consumer(consumer_config(self.settings, group_id="bench", auto_offset_reset="earliest"))
        found = consumer.list_topics(timeout=10).topics
        places = [TopicPartition(name, number, 0) for name in self.names for number in found[name].partitions]
        consumer.assign(places)
        return consumer, places

    def _take(self, consumer: Consumer) -> None:
        for message in consumer.consume(_STEP, 0.2):
            if (error := message.error()) is not None:
                raise RuntimeError(error.str())
            self.note(message)
