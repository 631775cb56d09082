"""How long deliveries wait for their senders: each says so on `clock`, and who lets replays in listens.

A delivery waits from its record's timestamp, which is its writer's clock, until a sender takes it up, which it tells by
the broker's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Lock
from typing import NoReturn

from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition

from pipeline.kafka.clients import consumer_config
from pipeline.kafka.messages import as_record
from pipeline.kafka.topics import CLOCK
from pipeline.ports import Record
from pipeline.settings import Settings
from pipeline.workers.carriage import Headers

BEHIND = "behind-ms"
"""The header of a sender's tick."""
_DIGITS = 12
_POLL_S = 0.25
_BATCH = 100


class Waits:
    """A sender's part: how long what it has taken up since it last said so had waited, at most.

    Where it took up nothing although records wait, they wait on since then. `now_ms` is the broker's time,
    `more` whether there are records that have not been taken up.
    """

    def __init__(
        self, now_ms: Callable[[], float], more: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now_ms, self._more, self._monotonic = now_ms, more, monotonic
        self._longest_ms: float | None = None
        self._said_ms, self._said_at = 0.0, monotonic()

    def took_up(self, record: Record) -> None:
        """Work on a record begins."""
        waited_ms = self._now_ms() - record.timestamp_ms
        self._longest_ms = max(waited_ms, self._longest_ms or 0.0)

    def says(self) -> Headers:
        """What the sender's next tick says."""
        now = self._monotonic()
        if self._longest_ms is not None:
            self._said_ms = self._longest_ms
        elif self._more():
            self._said_ms += (now - self._said_at) * 1000
        else:
            self._said_ms = 0.0
        self._longest_ms, self._said_at = None, now
        return ((BEHIND, b"%d" % self._said_ms),)


async def listen(settings: Settings, heard: Callable[[float], None]) -> NoReturn:
    """Call `heard` with what each sender says from now on, in milliseconds, until cancelled; other ticks say nothing.

    While no broker answers nothing is heard.
    """
    consumer = Consumer(consumer_config(settings, group_id="pipeline-pressure"))
    alone = Lock()  # a consumer must not be closed while another thread polls it
    consumer.assign([TopicPartition(CLOCK, 0, OFFSET_END)])
    try:
        while True:
            for behind_ms in await asyncio.to_thread(_said, consumer, alone):
                heard(behind_ms)
    finally:
        await asyncio.to_thread(_close, consumer, alone)


def _said(consumer: Consumer, alone: Lock) -> list[float]:
    with alone:
        first = consumer.poll(_POLL_S)
        messages = [] if first is None else [first, *consumer.consume(_BATCH, 0)]
    return [said for message in messages if (said := _behind_ms(message)) is not None]


def _behind_ms(message: Message) -> float | None:
    if message.error() is not None:
        return None
    text = dict(as_record(message).headers).get(BEHIND, b"")
    return float(text) if text.isdigit() and len(text) <= _DIGITS else None


def _close(consumer: Consumer, alone: Lock) -> None:
    with alone:
        consumer.close()
