"""What a list of the delivery log may be narrowed to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from pipeline.api.lists import Id, read_time
from pipeline.flow.event import TYPE_CHARACTERS
from pipeline.flow.history import Status
from pipeline.store.log import DeliveryFilter, EventFilter

_When = Annotated[str | None, Query(max_length=64, examples=["2026-01-31T12:00:00Z"])]
From = Annotated[_When, Query(alias="from", description="Made at this time (RFC 3339) or later.")]
To = Annotated[_When, Query(alias="to", description="Made before this time.")]
Type = Annotated[
    str | None, Query(max_length=TYPE_CHARACTERS, pattern=r"^[^\x00]*$", description="Of this event type.")
]
Webhook = Annotated[Id | None, Query(description="Of this webhook.")]
Replay = Annotated[Id | None, Query(description="Written by this replay.")]
Statuses = Annotated[list[Status] | None, Query(description="In this state; several may be given.")]


async def _events(from_: From = None, to: To = None, type_: Annotated[Type, Query(alias="type")] = None) -> EventFilter:
    return EventFilter(type_, *span(from_, to))


async def _deliveries(
    *,
    from_: From = None,
    to: To = None,
    type_: Annotated[Type, Query(alias="type")] = None,
    webhook: Webhook = None,
    status: Statuses = None,
    replay: Replay = None,
) -> DeliveryFilter:
    return DeliveryFilter(webhook, tuple(status or ()), type_, *span(from_, to), replay)


def span(from_: str | None, to: str | None) -> tuple[int | None, int | None]:
    """Milliseconds since the epoch. Raises `Refusal` (422)."""
    return (
        None if from_ is None else read_time(from_, "/from"),
        None if to is None else read_time(to, "/to"),
    )


EventFilterOf = Annotated[EventFilter, Depends(_events)]
"""An operation's parameter: which events."""

DeliveryFilterOf = Annotated[DeliveryFilter, Depends(_deliveries)]
"""An operation's parameter: which deliveries."""
