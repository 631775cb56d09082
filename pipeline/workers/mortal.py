"""A client whose process can be told to die before a request, or with its answer in hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipeline.faults import Faults, Point
from pipeline.flow.deliver import Outcome, OutgoingRequest
from pipeline.ports import Client


@dataclass(frozen=True, slots=True)
class _Mortal:
    send: Callable[[OutgoingRequest], Awaitable[Outcome]]


def mortal(client: Client, faults: Faults) -> Client:
    """The client itself where nobody has asked for a death there."""
    send = faults.around(Point.BEFORE_REQUEST, Point.AFTER_RESPONSE, client.send)
    return client if send == client.send else _Mortal(send)
