"""Following events: which are wanted, from when on, and how each is written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from pipeline.cli import _output
from pipeline.cli._output import Format
from pipeline.cli._times import time_ms
from pipeline.errors import Undecodable, UsageError
from pipeline.flow.event import Event
from pipeline.kafka.codec import Codec
from pipeline.kafka.tail import Start, tail
from pipeline.kafka.topics import EVENTS
from pipeline.ports import Record
from pipeline.settings import Settings

_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are shown: of one tenant, of one type or `prefix*`, or all."""

    tenant: str | None
    type: str | None

    def __call__(self, event: Event) -> bool:
        """Whether this one is."""
        if self.tenant not in (None, event.tenant):
            return False
        if self.type is None:
            return True
        return event.type.startswith(self.type[:-1]) if self.type.endswith("*") else event.type == self.type


async def follow(settings: Settings, start: Start, wanted: Wanted, count: int | None, output: Format) -> None:
    """Write the events that are wanted, `count` of them or without an end."""
    codec, written = await Codec.open(settings), 0
    async with aclosing(tail(settings, EVENTS, start)) as batches:
        async for batch in batches:
            await codec.learn(record.value for record in batch)
            for record, event in _decoded(codec, batch):
                if not wanted(event):
                    continue
                _write(record, event, output)
                written += 1
                if written == count:
                    return


def start_of(text: str, now_s: float | None = None) -> Start:
    """`earliest`, `latest`, `-2h` (before now), `@` and milliseconds since the epoch, or an ISO 8601 time.

    Raises `UsageError` for anything else.
    """
    try:
        return _end(text) if text in ("earliest", "latest") else time_ms(text, now_s)
    except (ValueError, UsageError) as error:
        raise UsageError(
            f"--from {text!r}: write earliest, latest, -2h, an ISO 8601 time, or @ and milliseconds"
        ) from error


def _end(text: str) -> Literal["earliest", "latest"]:
    return "earliest" if text == "earliest" else "latest"


def _decoded(codec: Codec, batch: Iterable[Record]) -> Iterable[tuple[Record, Event]]:
    for record in batch:
        try:
            yield record, codec.event(record)
        except Undecodable as error:
            _output.aside(f"pipeline: {record.topic}[{record.partition}]@{record.offset} cannot be read: {error}")


def _write(record: Record, event: Event, output: Format) -> None:
    if output is Format.TABLE:
        data = event.data if len(event.data) <= _SHOWN else event.data[: _SHOWN - 1] + "…"
        _output.text(f"{_time(event.time_ms)}  {event.tenant}  {event.type}  {event.id}  {data}")
    else:
        _output.line(_plain(record, event))


def _plain(record: Record, event: Event) -> dict[str, Any]:
    said = asdict(event)
    try:
        data = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        data = event.data
    return {
        **{name: said[name] for name in ("id", "tenant", "type")},
        "time": _time(event.time_ms),
        "data": data,
        **{name: said[name] for name in ("actor", "subject", "source")},
        "partition": record.partition,
        "offset": record.offset,
    }


def _time(time_ms: int) -> str:
    try:
        moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return f"@{time_ms}"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
