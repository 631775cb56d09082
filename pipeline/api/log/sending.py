"""Sending deliveries again: which may be, and the record that does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus

from pipeline.api.deps import Deps
from pipeline.api.problems import Refusal
from pipeline.api.state import status_and_state
from pipeline.errors import PipelineError, Unreachable
from pipeline.flow.deliver import Carriage, Delivery
from pipeline.flow.history import ENDED
from pipeline.flow.replay import Replay, Source
from pipeline.flow.rounds import RANDOM_BYTES, fresh_round
from pipeline.flow.subscription import Subscription
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import DELIVERIES
from pipeline.ports import Outgoing
from pipeline.profiles import PROFILES
from pipeline.store.log import DeadRow, DeliveryRow
from pipeline.workers.carriage import to_headers
from pipeline.workers.redrive import wanted

BODY_GONE = "The body is gone: retention has taken it. Send the event again instead."
_UNCONFIRMED = (
    "Kafka has not confirmed all of it in time, some may be sent: look, and ask again; what is sent is left out"
)


async def require_active(deps: Deps, tenant: str, held: Subscription | None) -> Subscription:
    """The webhook, which would be sent to now. Raises `Refusal` (409) where a delivery would only be skipped."""
    if held is None:
        raise Refusal(HTTPStatus.CONFLICT, "The webhook is gone: nothing would be sent.")
    owner = deps.tenant(tenant)
    unmet = PROFILES[owner.profile].unmet(owner)
    known = (await deps.directory.states([held.path])).get(held.path)
    status, state = status_and_state(held, unmet.refusal if unmet else None, known, None, deps.clock())
    if status != "active":
        why = f" ({state.reason})" if state.reason else ""
        words = f"The webhook is {status}{why}: nothing would be sent."
        if status != "suspended":
            words += f" Activate it first: pipeline webhooks activate {tenant} {held.webhook}"
        raise Refusal(HTTPStatus.CONFLICT, words)
    return held


def may_be_sent(deps: Deps, row: DeliveryRow) -> None:
    """Raise `Refusal` (409) while the delivery has not ended, as far as the log or this process knows."""
    if deps.issued.newer(row.id, row.round) is not None:
        raise Refusal(HTTPStatus.CONFLICT, "The delivery is being sent again already.")
    if row.status not in ENDED:
        raise Refusal(HTTPStatus.CONFLICT, f"The delivery has not ended: it is {row.status}.")


async def require_unordered(deps: Deps, tenant: str, delivery: str) -> None:
    """Raise `Refusal` (409) while an order over dead letters may bring this delivery back."""
    if any(_brings_back(deps)):
        for row in await deps.log.ask(lambda log: log.dead_of(tenant, delivery)):
            refuse_ordered(deps, row)


def refuse_ordered(deps: Deps, row: DeadRow) -> None:
    """Raise `Refusal` (409) for a dead letter that an order may be at."""
    for order in _brings_back(deps):
        if wanted(order, row.seen, row.state):
            raise Refusal(HTTPStatus.CONFLICT, f"Replay {order.id} is redriving it: wait until that has ended.")


def _brings_back(deps: Deps) -> Iterator[Replay]:
    """The orders over dead letters that are not over."""
    orders = (order for order in deps.replays.of(None) if order.source is Source.DEAD_LETTERS)
    return (order for order in orders if not deps.replays.is_over(order))


def in_fresh_round(deps: Deps, row: DeliveryRow, delivery: Delivery) -> tuple[str, Outgoing]:
    """A round of its own, and the delivery as it was first written, in that round: the same id, the same bytes."""
    round_ = fresh_round(deps.clock(), deps.random(RANDOM_BYTES), row.round)
    return round_, _again(deps.records.codec, delivery, round_)


async def recorded(deps: Deps, rows: Iterable[DeliveryRow]) -> dict[str, Delivery]:
    """The deliveries, by their ids, whose bodies retention has not taken yet. Raises `Unreachable`."""
    at = {row.id: (row.partition, row.offset) for row in rows if row.partition is not None and row.offset is not None}
    held = await deps.records.deliveries(at.values())
    return {number: held[place] for number, place in at.items() if place in held and held[place].id == number}


async def hand_over(deps: Deps, rounds: Sequence[tuple[str, str]], records: Sequence[Outgoing]) -> None:
    """Write the records; `rounds` are their deliveries' ids and rounds. Raises `Unreachable` if one is not confirmed.

    From before the writing on they count as under way; those of which it is not known whether they were written do not.
    """
    for delivery, round_ in rounds:
        deps.issued.give(delivery, round_)
    outcomes: Sequence[PipelineError | None] = [Unreachable(_UNCONFIRMED)] * len(rounds)
    try:
        outcomes = await deps.records.publish(records)
    finally:
        for (delivery, _), error in zip(rounds, outcomes, strict=True):
            if error is not None:
                deps.issued.take_back(delivery)
    if any(error is not None for error in outcomes):
        raise Unreachable(_UNCONFIRMED)


def _again(codec: Codec, delivery: Delivery, round_: str) -> Outgoing:
    first, headers = replace(delivery, attempt=1), to_headers(Carriage(round_))
    return Outgoing(DELIVERIES, delivery.path.encode(), codec.encode_delivery(first), headers)
