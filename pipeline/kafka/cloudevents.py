"""CloudEvents in binary mode: attributes in `ce_*` headers, any registered Avro record as the value.

Source: the Kafka protocol binding for CloudEvents 1.0, section 3.2. A service that already produces typed Avro adds
headers, nothing else.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import uuid
from dataclasses import replace
from typing import Any

import orjson

from pipeline.errors import Undecodable
from pipeline.flow.event import Event
from pipeline.ports import Record
from pipeline.workers.sifting import MARK

_REQUIRED = ("ce_id", "ce_type", "ce_source", "ce_tenant")


def is_cloud_event(record: Record) -> bool:
    """Whether the record's headers say so."""
    return any(name == MARK for name, _ in record.headers)


def event_of(record: Record, data: Any) -> Event:
    """The event of a record whose value has been decoded to `data`.

    Raises `Undecodable` when an attribute is missing or unreadable.
    """
    return replace(named(record), data=plain_json(data))


def named(record: Record) -> Event:
    """The event of a record by its attributes alone: without data. Raises `Undecodable`, as `event_of`."""
    attributes = _attributes(record)
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise Undecodable("invalid", f"CloudEvents attribute {missing[0]} is missing")
    return Event(
        id=attributes["ce_id"],
        tenant=attributes["ce_tenant"],
        type=attributes["ce_type"],
        time_ms=_time_ms(attributes["ce_time"]) if "ce_time" in attributes else record.timestamp_ms,
        data="",
        actor=attributes.get("ce_actor"),
        subject=attributes.get("ce_subject"),
        source=attributes["ce_source"],
    )


def _attributes(record: Record) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in record.headers if name.startswith("ce_") and value is not None}
    except UnicodeDecodeError as error:
        raise Undecodable("invalid", "a CloudEvents attribute is not UTF-8") from error


def _time_ms(text: str) -> int:
    """RFC 3339 in milliseconds since the epoch."""
    try:
        moment = dt.datetime.fromisoformat(text.upper())  # RFC 3339 allows `t` and `z`
    except ValueError as error:
        raise Undecodable("invalid", f"CloudEvents attribute ce_time is not an RFC 3339 time: {text[:64]!r}") from error
    if moment.tzinfo is None:
        raise Undecodable("invalid", "CloudEvents attribute ce_time has no zone")
    return round(moment.timestamp() * 1000)


def plain_json(value: Any) -> str:
    """A decoded Avro value as plain JSON.

    A union is its bare value, enums and decimals are strings, bytes base64, dates ISO 8601 in UTC. What is not a number
    or infinite has no JSON: it would be written as `null`, another value, without a word.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except orjson.JSONEncodeError as error:
        raise Undecodable("undecodable", f"the value has no plain JSON: {error}") from error
    if b"null" in text and _has_no_number(value):
        raise Undecodable("undecodable", "the value has no plain JSON: a number in it is not finite")
    return text.decode()


def _has_no_number(value: Any) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case dict():
            return any(map(_has_no_number, value.values()))
        case list():
            return any(map(_has_no_number, value))
    return False


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case decimal.Decimal():
            return format(value, "f")
        case dt.datetime():
            return _utc(value)
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta() | uuid.UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} is no Avro value")


def _utc(moment: dt.datetime) -> str:
    """With `Z`; a local timestamp, which has no zone, without."""
    if moment.tzinfo is None:
        return moment.isoformat()
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
