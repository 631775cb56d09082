"""A delivery that somebody has stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.deliver import Carriage, Skipped, Verdict
from pipeline.workers.carriage import of_headers
from tests.workers.parts import DELIVERY, Handle, Sending, answer, delivered, sending


def _stopping(flow: Sending, *stopped: tuple[str, str]) -> Sending:
    flow.sender = replace(flow.sender, cancelled=lambda delivery, round_: (delivery, round_) in stopped)
    return flow


async def test_a_cancelled_delivery_ends_without_a_request() -> None:
    """What was cancelled before its attempt ends with verdict `skipped`, whichever attempt it waited for."""
    flow, handle = _stopping(sending(answer(200)), ("msg_1", "r1")), Handle()
    await flow(delivered(replace(DELIVERY, attempt=4), Carriage("r1", 6)), handle)
    (attempt,) = flow.publisher.attempts
    assert (attempt.verdict, attempt.next, attempt.attempt, attempt.round) == (Verdict.SKIPPED, Skipped(), 4, "r1")
    assert flow.endpoint.requests == []
    assert handle.released


async def test_another_round_is_not_cancelled() -> None:
    """A cancelling is of one round: a redelivery afterwards is sent."""
    flow = _stopping(sending(answer(200)), ("msg_1", "r1"))
    await flow(delivered(carriage=Carriage("r2")))
    assert [one.verdict for one in flow.publisher.attempts] == [Verdict.DELIVERED]


async def test_a_delivery_cancelled_while_it_waits_for_its_turn_gives_its_turn_back() -> None:
    """The look-up is made once more before the request, and the endpoint's place is free again."""
    flow, looks = sending(answer(200)), iter([False, True])
    flow.sender = replace(flow.sender, cancelled=lambda _delivery, _round: next(looks))
    await flow(delivered())
    assert [one.verdict for one in flow.publisher.attempts] == [Verdict.SKIPPED]
    assert flow.endpoint.requests == []
    held = flow.targets.there["acme/wh_1"].subscription
    assert flow.sender.endpoints.of(held).lane.in_flight == 0


async def test_a_cancelled_delivery_ends_though_its_webhook_cannot_be_found() -> None:
    """Nothing is waited for: the view need not come to where the router's was."""
    flow = _stopping(sending(answer(200)), ("msg_1", ""))
    flow.targets.there.clear()
    await flow(delivered())
    assert [one.next for one in flow.publisher.attempts] == [Skipped()]
    assert not [entry for entry in flow.log if entry.startswith("reached")]


def _of_cancelled(flow: Sending, *replays: tuple[str, str]) -> Sending:
    flow.sender = replace(flow.sender, replay_cancelled=lambda replay, round_: (replay, round_) in replays)
    return flow


@pytest.mark.replay
async def test_what_a_cancelled_replay_has_written_is_skipped() -> None:
    """Its deliveries end as those that were cancelled one by one, and those of others are sent."""
    flow, handle = _of_cancelled(sending(answer(200)), ("rpl_1", "")), Handle()
    await flow(delivered(replace(DELIVERY, replay="rpl_1")), handle)
    await flow(delivered(replace(DELIVERY, id="msg_2", replay="rpl_2"), offset=6))
    await flow(delivered(replace(DELIVERY, id="msg_3"), offset=7))
    verdicts = {one.delivery: one.verdict for one in flow.publisher.attempts}
    assert verdicts == {"msg_1": Verdict.SKIPPED, "msg_2": Verdict.DELIVERED, "msg_3": Verdict.DELIVERED}
    assert handle.released


@pytest.mark.replay
async def test_a_replay_cancelled_while_its_delivery_waits_for_its_turn_is_not_sent() -> None:
    """The replay is looked up once more before the request."""
    flow, looks = sending(answer(200)), iter([False, True])
    flow.sender = replace(flow.sender, replay_cancelled=lambda _replay, _round: next(looks))
    await flow(delivered(replace(DELIVERY, replay="rpl_1")))
    assert [one.verdict for one in flow.publisher.attempts] == [Verdict.SKIPPED]
    assert flow.endpoint.requests == []


@pytest.mark.replay
async def test_what_a_cancelled_redrive_has_written_is_skipped() -> None:
    """An order over dead letters is known by the record's headers: the delivery is no replay's."""
    flow, handle = _of_cancelled(sending(answer(200)), ("rpl_1", "r1")), Handle()
    await flow(delivered(carriage=Carriage("r1", order="rpl_1")), handle)
    await flow(delivered(replace(DELIVERY, id="msg_2"), Carriage("r1", order="rpl_2"), offset=6))
    await flow(delivered(replace(DELIVERY, id="msg_3"), Carriage("r1"), offset=7))
    verdicts = {one.delivery: one.verdict for one in flow.publisher.attempts}
    assert verdicts == {"msg_1": Verdict.SKIPPED, "msg_2": Verdict.DELIVERED, "msg_3": Verdict.DELIVERED}
    assert handle.released


@pytest.mark.replay
async def test_a_redrive_is_known_on_the_ladder_too() -> None:
    """What waits for its next attempt carries the order, so that a later cancelling stops it."""
    flow = sending(answer(500))
    await flow(delivered(carriage=Carriage("r1", order="rpl_1")))
    (later,) = [out for out in flow.publisher.written if out.topic.startswith("retry-")]
    assert of_headers(later.headers).order == "rpl_1"
