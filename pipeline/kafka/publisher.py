"""The one producer of a process: durable, bounded, and honest about reports."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, Producer

from pipeline.errors import PipelineError, Unreachable
from pipeline.faults import Control, Faults, Point
from pipeline.kafka.clients import producer_config
from pipeline.ports import Outgoing
from pipeline.settings import Settings

UNREPORTED_BYTES = 64 * 1024 * 1024
"""How much may be on its way to the broker before the caller has to wait."""

_POLL_S, _WORKERS_POLL_S = 0.004, 0.02
"""How often reports are collected: where somebody waits for each, and where none does."""
_SILENT_S = 10.0


class Report(NamedTuple):
    """What the broker says of a durable record: its offset, and when it was appended (ms; 0 where it does not say)."""

    offset: int
    append_ms: int


class Publisher:
    """Writes records; a future is done when the broker has reported the record durable.

    Reports are collected in the event loop a few hundred times a second; no other thread is involved. With
    `timeout_s` None (workers) a record waits for its broker as long as it takes; with a number (the API) its future
    raises `Unreachable` after that many seconds, which means: unknown, it may have been written.
    """

    def __init__(self, settings: Settings, timeout_s: float | None = None, **properties: object) -> None:
        timeout_ms = 0 if timeout_s is None else int(timeout_s * 1000)
        self._producer = Producer(producer_config(settings, message_timeout_ms=timeout_ms, **properties))
        faults = Faults.of(settings)
        self._produce = faults.at(Point.BEFORE_PRODUCE, self._producer.produce, _produced_topic)
        heard = self._swallowed if faults.control is Control.SWALLOW_ERRORS else self._reported
        self._heard = faults.at(Point.AFTER_REPORT, heard, _reported_topic)
        self._loop = asyncio.get_running_loop()
        self._poll_s = _WORKERS_POLL_S if timeout_s is None else _POLL_S
        self._unreported: dict[asyncio.Future[Report], float] = {}
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer = self._loop.call_later(self._poll_s, self._poll)

    def publish(self, record: Outgoing) -> asyncio.Future[Report]:
        """Hand a record over at once; the future is done when it is durable."""
        report: asyncio.Future[Report] = self._loop.create_future()
        size = record.size
        self._produce(
            record.topic,
            record.value,
            record.key,
            -1 if record.partition is None else record.partition,
            headers=list(record.headers),
            on_delivery=partial(self._heard, report, size),
        )
        self._unreported[report] = time.monotonic()
        self._bytes += size
        return report

    @property
    def unreported_bytes(self) -> int:
        """How much is on its way to the broker."""
        return self._bytes

    async def room(self) -> None:
        """Wait until less than 64 MB are unreported."""
        while self._bytes > UNREPORTED_BYTES:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(turn)
            await turn

    async def flush(self, timeout_s: float) -> bool:
        """Wait for the reports of all that was handed over; False if some are missing after `timeout_s`."""
        pending = [report for report in self._unreported if not report.done()]
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)
        return not self._unreported

    @property
    def silent(self) -> bool:
        """Whether the broker has left a record unreported for 10 seconds: it is down, or cut off."""
        oldest = next(iter(self._unreported.values()), None)
        return oldest is not None and time.monotonic() - oldest > _SILENT_S

    async def close(self, timeout_s: float = 10.0) -> None:
        """Flush and stop."""
        await self.flush(timeout_s)
        self._timer.cancel()

    def _poll(self) -> None:
        self._producer.poll(0)
        self._timer = self._loop.call_later(self._poll_s, self._poll)

    def _reported(self, report: asyncio.Future[Report], size: int, error: KafkaError | None, message: Message) -> None:
        self._bytes -= size
        del self._unreported[report]
        while self._waiting and self._bytes <= UNREPORTED_BYTES:
            if not (turn := self._waiting.popleft()).done():  # its task may have been cancelled
                turn.set_result(None)
        if report.done():
            return
        if error is None:
            kind, at_ms = message.timestamp()
            report.set_result(Report(message.offset() or 0, at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else 0))
        else:
            report.set_exception(_failed(error, message))

    def _swallowed(
        self, report: asyncio.Future[Report], size: int, _error: KafkaError | None, message: Message
    ) -> None:
        """The control: a failed report counts as success."""
        self._reported(report, size, None, message)


def _produced_topic(topic: str, *_: object, **__: object) -> str:
    return topic


def _reported_topic(_report: object, _size: int, _error: KafkaError | None, message: Message) -> str | None:
    return message.topic()


def _failed(error: KafkaError, message: Message) -> Exception:
    if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):  # noqa: SLF001
        return Unreachable(
            "Kafka has not confirmed the record in time: it may or may not be stored; send it again with the same id"
        )
    return PipelineError(f"a record for {message.topic()} was refused: {error.str()}")
