"""Bodies: pure renderings, the same bytes for the same event, however often and wherever it is rendered.

The event's `data` is put in as its producer wrote it, never parsed and written anew: numbers keep their digits, keys
their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import orjson

from pipeline.flow.event import Event
from pipeline.flow.subscription import Tenant
from pipeline.flow.times import iso_milliseconds, iso_seconds

Renderer = Callable[[Event, Tenant, str], bytes]
"""Makes the body from an event, its tenant and the delivery's id."""

_GREGORIAN_100NS = 0x01B2_1DD2_1381_4000
"""From 15 October 1582, where a version-1 UUID's clock begins, to 1970, in steps of 100 ns (RFC 9562, section 5.1)."""


def type_timestamp_data(event: Event, _tenant: Tenant, _delivery: str) -> bytes:
    """`{type, timestamp, data}`, the time to the millisecond: the Standard Webhooks specification's payload."""
    return (
        f'{{"type":{_text(event.type)},"timestamp":"{iso_milliseconds(event.time_ms)}","data":{event.data}}}'.encode()
    )


def event_data_company(event: Event, tenant: Tenant, _delivery: str) -> bytes:
    """`{event, data, company: {id, name}}`."""
    company = f'{{"id":{_text(tenant.id)},"name":{_text(tenant.name)}}}'
    return f'{{"event":{_text(event.type)},"data":{event.data},"company":{company}}}'.encode()


def event_timestamp_data(event: Event, _tenant: Tenant, _delivery: str) -> bytes:
    """`{event, timestamp, data}`, the time to the second."""
    time = iso_seconds(event.time_ms // 1000)
    return f'{{"event":{_text(event.type)},"timestamp":"{time}","data":{event.data}}}'.encode()


def project_event(event: Event, tenant: Tenant, _delivery: str) -> bytes:
    """`{event_name, timestamp, payload, team_member_id, project_code}`, the time in whole seconds since the epoch."""
    start = f'{{"event_name":{_text(event.type)},"timestamp":{event.time_ms // 1000},"payload":{event.data}'
    return f'{start},"team_member_id":{event.actor},"project_code":{_text(tenant.id)}}}'.encode()


def message_envelope(titles: Mapping[str, str]) -> Renderer:
    """`{messageId, eventCode, eventName, payload}`; `titles` has the name of each event code."""
    names = {code: f'"eventCode":{_text(code)},"eventName":{_text(title)}' for code, title in titles.items()}

    def render(event: Event, _tenant: Tenant, delivery: str) -> bytes:
        message = time_uuid(event.time_ms, delivery)
        return f'{{"messageId":"wh-{message}",{names[event.type]},"payload":{event.data}}}'.encode()

    return render


def time_uuid(time_ms: int, seed: str) -> str:
    """A version-1 UUID of this time, the same whenever it is made of the same arguments.

    Its clock sequence and node come from a hash of `seed`. The node has its multicast bit set, so it is no machine's
    address (RFC 9562, section 6.10).
    """
    ticks = time_ms * 10_000 + _GREGORIAN_100NS
    noise = hashlib.sha256(seed.encode()).digest()
    high = 0x1000 | (ticks >> 48) & 0x0FFF
    clock = 0x8000 | int.from_bytes(noise[:2]) & 0x3FFF
    node = int.from_bytes(noise[2:8]) | 1 << 40
    return f"{ticks & 0xFFFFFFFF:08x}-{ticks >> 32 & 0xFFFF:04x}-{high:04x}-{clock:04x}-{node:012x}"


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
