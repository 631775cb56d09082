"""The sender's endpoints: who goes, who waits in memory, who on the ladder, and what is written of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.flow.deliver import Carriage, Delivery, Outcome, Verdict
from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.trials import WebhookTest
from pipeline.ports import Outgoing
from pipeline.workers import endpoints as module
from pipeline.workers.carriage import of_headers
from pipeline.workers.endpoints import Endpoints
from tests.workers.parts import (
    CODEC,
    DELIVERY,
    HEALTH,
    LADDER,
    NOW_MS,
    Handle,
    Sending,
    Slow,
    answer,
    delivered,
    read,
    sending,
    settled,
    target,
)

TIER_MS = LADDER.tiers[0].wait_ms
DAY_MS = 24 * 3_600_000


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = float(NOW_MS)

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def paced(
    flow: Sending,
    clock: Clock,
    *,
    stored: EndpointState | None = None,
    tested: Callable[[str], WebhookTest | None] = lambda _: None,
    **webhook: object,
) -> Endpoints:
    """Put new endpoints under this clock into the sender; the webhook is changed like this."""
    held = flow.targets.there["acme/wh_1"]
    flow.targets.there["acme/wh_1"] = replace(held, subscription=replace(held.subscription, **webhook))  # type: ignore[arg-type]
    made = Endpoints(CODEC, flow.publisher, HEALTH, LADDER, clock=clock, stored=lambda _: stored, tested=tested)
    object.__setattr__(flow.sender, "endpoints", made)
    return made


def on_ladder(flow: Sending) -> list[Outgoing]:
    return [record for record in flow.publisher.written if record.topic.startswith("retry-")]


def another(number: int) -> Delivery:
    return replace(DELIVERY, id=f"msg_{number}")


async def test_what_waits_in_memory_goes_when_a_request_ends(clock: Clock) -> None:
    """Beyond an endpoint's share a delivery waits for the end of another, in nobody's way."""
    flow = sending(answer(200))
    paced(flow, clock, max_in_flight=1)
    flow.endpoint.gate.clear()
    handles = [Handle() for _ in range(3)]
    works = [flow(delivered(another(number), offset=number), handle) for number, handle in enumerate(handles)]
    await settled()
    assert len(flow.endpoint.requests) == 1
    assert [handle.log for handle in handles[1:]] == [["answered"], ["answered"]]
    flow.endpoint.gate.set()
    await asyncio.gather(*works)
    assert len(flow.endpoint.requests) == 3
    assert {record.topic for record in flow.publisher.written} == {"attempts"}


async def test_what_comes_too_late_waits_on_the_ladder(clock: Clock) -> None:
    """A delivery whose turn is far is written to a tier with its slot, unchanged, without an attempt."""
    flow = sending(answer(200))
    paced(flow, clock, rate=0.01)
    await flow(delivered(another(0), offset=0))
    handle, record = Handle(), delivered(another(1), Carriage("r1", 4), offset=1)
    await flow(record, handle)
    (out,) = on_ladder(flow)
    carriage = of_headers(out.headers)
    assert (out.value, out.key, carriage.round, carriage.hop) == (record.value, record.key, "r1", 5)
    assert carriage.slot_ms > NOW_MS + 90_000
    assert 90_000 <= carriage.wait_ms <= carriage.slot_ms - NOW_MS
    assert handle.released
    assert len(flow.publisher.attempts) == 1


async def test_a_postponed_delivery_is_worked_on_when_it_returns(clock: Clock) -> None:
    """Being postponed is no attempt: the delivery is sent when its record comes back, in its slot."""
    flow = sending(answer(200))
    paced(flow, clock, rate=0.01)
    await flow(delivered(another(0), offset=0))
    await flow(delivered(another(1), offset=1))
    slot_ms = of_headers(flow.publisher.written[-1].headers).slot_ms
    clock.now = slot_ms
    await flow(delivered(another(1), Carriage(hop=3, slot_ms=slot_ms), offset=2))
    assert [attempt.delivery for attempt in flow.publisher.attempts] == ["msg_0", "msg_1"]


async def test_a_postponed_carrier_still_stands_for_its_request(clock: Clock) -> None:
    """A carrier that has to wait for its endpoint looks for the attempt again when it is back."""
    flow = sending(answer(200))
    paced(flow, clock, rate=0.01)
    await flow(delivered(another(0), offset=0))
    await flow(delivered(another(1), Carriage(hop=2, stands_for=1), offset=1))
    assert of_headers(flow.publisher.written[-1].headers).stands_for == 1


async def test_what_waits_is_left_to_the_next_owner(clock: Clock) -> None:
    """When its partition goes, a delivery that waits in memory is neither sent nor written nor released."""
    flow = sending(answer(200))
    endpoints = paced(flow, clock, max_in_flight=1)
    flow.endpoint.gate.clear()
    handles = [Handle(), Handle()]
    works = [flow(delivered(another(number), offset=number), handle) for number, handle in enumerate(handles)]
    await settled()
    handles[1].open = False
    endpoints.look()
    await works[1]
    assert not handles[1].released
    assert flow.publisher.written == []
    works[0].cancel()


async def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room in memory waits on the ladder, although its turn would come soon."""
    monkeypatch.setattr(module, "MOST_HELD", 1)
    flow = sending(answer(200))
    paced(flow, clock, max_in_flight=1)
    flow.endpoint.gate.clear()
    works = [flow(delivered(another(number), offset=number)) for number in range(3)]
    await settled()
    assert [record.topic for record in flow.publisher.written] == ["retry-5s"]
    flow.endpoint.gate.set()
    await asyncio.gather(*works)


async def test_requests_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many requests hang over all endpoints, another one waits on the ladder."""
    monkeypatch.setattr(module, "MOST_IN_FLIGHT", 1)
    flow = sending(answer(200))
    paced(flow, clock)
    flow.endpoint.gate.clear()
    works = [flow(delivered(another(number), offset=number)) for number in range(2)]
    await settled()
    assert (len(flow.endpoint.requests), flow.publisher.written[0].topic) == (1, "retry-5s")
    flow.endpoint.gate.set()
    await asyncio.gather(*works)


async def test_those_that_are_well_go_on_beside_all_that_hang(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many requests hang, an endpoint that has just answered still gets its own."""
    flow = sending(answer(200))
    paced(flow, clock)
    await flow(delivered(another(0), offset=0))
    monkeypatch.setattr(module, "MOST_IN_FLIGHT", 0)
    await flow(delivered(another(1), offset=1))
    assert len(flow.publisher.attempts) == 2


async def test_who_is_well_and_keeps_nobody_waiting_takes_at_once(clock: Clock) -> None:
    """An endpoint that has succeeded does, unless something waits for it, or it has failed since."""
    flow = sending(answer(200), answer(200), answer(200), answer(500))
    endpoints = paced(flow, clock, max_in_flight=1)
    key = b"acme/wh_1"
    assert not endpoints.takes_at_once(None)
    assert not endpoints.takes_at_once(key)
    await flow(delivered(another(0), offset=0))
    assert endpoints.takes_at_once(key)
    assert not endpoints.takes_at_once(b"acme/wh_2")
    flow.endpoint.gate.clear()
    works = [flow(delivered(another(number), offset=number)) for number in (1, 2)]
    await settled()
    assert not endpoints.takes_at_once(key)
    flow.endpoint.gate.set()
    await asyncio.gather(*works)
    assert endpoints.takes_at_once(key)
    await flow(delivered(another(3), offset=3))
    assert not endpoints.takes_at_once(key)


@pytest.mark.parametrize(("took_ms", "at_once"), [(900, 3), (9_000, 1)])
async def test_turns_at_slow_endpoints_are_spread(clock: Clock, took_ms: int, at_once: int) -> None:
    """Where a request lasts long, one goes in the place of the one that has ended; those that come on top go later."""
    _, turns = await turns_together(clock, took_ms, [Handle() for _ in range(3)])
    assert sum(turn.done() for turn in turns) == at_once
    for turn in turns:
        turn.cancel()
    await asyncio.gather(*turns, return_exceptions=True)


async def test_turns_that_are_spread_come(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, over the time that a request lasts."""
    monkeypatch.setattr(module, "_SLOW_MS", 10)
    _, turns = await turns_together(clock, 200, [Handle() for _ in range(3)])
    came: list[asyncio.Task[float]] = []
    for turn in turns:
        turn.add_done_callback(came.append)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*turns) == [0, 0, 0]
    assert came == turns


async def test_turns_that_are_spread_do_not_hold_up_a_partition(clock: Clock) -> None:
    """When it is given up, who waits for a turn of its records waits no longer."""
    works = [Handle() for _ in range(3)]
    endpoints, turns = await turns_together(clock, 9_000, works)
    for work in works:
        work.open = False
    endpoints.look()
    assert await asyncio.gather(*turns) == [0, 0, 0]
    assert not endpoints._spread


async def test_after_an_outage_turns_are_not_spread(clock: Clock) -> None:
    """The mean still says that a request lasts long; the newest one has not."""
    flow = sending(replace(answer(200), duration_ms=15_000))
    endpoints = paced(flow, clock)
    await flow(delivered(another(0), offset=0))
    (endpoint,) = endpoints._known.values()
    while endpoints.enter(endpoint, 0) == 0:
        pass
    turns = [asyncio.create_task(endpoints.wait(endpoint, NOW_MS, Handle())) for _ in range(3)]
    await settled()
    endpoints.leave(endpoint, Verdict.DELIVERED, 50, 15)
    await settled()
    assert endpoint.lane.mean_ms > 10_000
    assert all(turn.done() for turn in turns)


async def turns_together(
    clock: Clock, took_ms: int, works: list[Handle]
) -> tuple[Endpoints, list[asyncio.Task[float]]]:
    """Turns of these that an endpoint gives in one moment; what it was asked before took this long."""
    flow = sending(replace(answer(200), duration_ms=took_ms))
    endpoints = paced(flow, clock)
    await flow(delivered(another(0), offset=0))
    (endpoint,) = endpoints._known.values()
    under_way = 0
    while endpoints.enter(endpoint, 0) == 0:
        under_way += 1
    turns = [asyncio.create_task(endpoints.wait(endpoint, NOW_MS, work)) for work in works]
    await settled()
    assert not any(turn.done() for turn in turns)
    for _ in range(under_way):
        endpoints.give_back(endpoint)
    endpoints.look()
    await settled()
    return endpoints, turns


@pytest.mark.parametrize(("number", "portion"), [(40, 20), (1_002, 50)])
async def test_an_endpoint_that_hangs_gives_up_what_waits(clock: Clock, number: int, portion: int) -> None:
    """The longer nothing ends, the less an endpoint can take: what waited for it in memory goes to the ladder.

    Not all in one moment, as others are to be served meanwhile.
    """
    flow = sending(answer(200))
    endpoints = paced(flow, clock)
    flow.endpoint.gate.clear()
    works = [flow(delivered(another(n), offset=n)) for n in range(number)]
    await settled()
    assert len(flow.endpoint.requests) == 2
    clock.now += 30_000
    for _ in range(100):
        before = len(on_ladder(flow))
        endpoints.look()
        await settled()
        assert len(on_ladder(flow)) <= before + portion
        assert before or len(on_ladder(flow)) == portion
    assert len(on_ladder(flow)) == number - 2 - 5
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)


async def test_a_gone_endpoint_is_disabled_and_told(clock: Clock) -> None:
    """After a 410 the state says so at once, an event tells it, and what still comes is skipped."""
    flow = sending(answer(410))
    paced(flow, clock)
    await flow(delivered(another(0), offset=0))
    (state,) = [CODEC.decode_endpoint_state(record.value) for record in flow.publisher.to("endpoint-state")]
    assert (state.disabled, state.reason, state.path) == (True, "gone", "acme/wh_1")
    (told,) = [CODEC.event(read("events", record.value)) for record in flow.publisher.to("events")]
    assert isinstance(told, Event)
    assert (told.tenant, told.type) == ("_operations", "endpoint.disabled")
    await flow(delivered(another(1), offset=1))
    assert [attempt.verdict for attempt in flow.publisher.attempts] == ["gone", "skipped"]
    assert len(flow.endpoint.requests) == 1


async def test_operations_own_endpoints_tell_nothing(clock: Clock) -> None:
    """A failing endpoint of `_operations` causes no event, which would come to it in turn."""
    flow = sending(answer(410))
    paced(flow, clock, tenant="_operations")
    await flow(delivered(another(0), offset=0))
    assert flow.publisher.to("endpoint-state")
    assert flow.publisher.to("events") == []


async def test_a_healthy_endpoint_is_not_written_of(clock: Clock) -> None:
    """As long as all goes well nothing is written but the attempts."""
    flow = sending(answer(200))
    endpoints = paced(flow, clock)
    for number in range(50):
        await flow(delivered(another(number), offset=number))
        clock.now += 1_000
        endpoints.look()
    assert {record.topic for record in flow.publisher.written} == {"attempts"}


async def test_a_failing_endpoint_is_written_of_now_and_then(clock: Clock) -> None:
    """What is known of an endpoint that fails is written at most every five seconds; what clears it too."""
    flow = sending(*[answer(500)] * 15, answer(200))
    endpoints = paced(flow, clock)
    for number in range(16):
        await flow(delivered(another(number), offset=number))
        clock.now += 1_000
        endpoints.look()
    clock.now += 5_000
    endpoints.look()
    states = [CODEC.decode_endpoint_state(record.value) for record in flow.publisher.to("endpoint-state")]
    assert 3 <= len(states) <= 5
    assert states[0].failing_since_ms == NOW_MS
    assert (states[-1].failing_since_ms, states[-1].failures) == (None, 0)


async def test_a_success_ends_the_error_of_a_failed_test(clock: Clock) -> None:
    """A healthy endpoint writes nothing, until a delivery succeeds after a failed test: that test is named, once."""
    flow = sending(answer(200))
    tests: list[WebhookTest] = []
    endpoints = paced(flow, clock, tested=lambda _: tests[-1] if tests else None)

    async def deliver(number: int) -> list[int | None]:
        await flow(delivered(another(number), offset=number))
        clock.now += 6_000
        endpoints.look()
        return [CODEC.decode_endpoint_state(record.value).tested_ms for record in flow.publisher.to("endpoint-state")]

    failed = WebhookTest("acme", "wh_1", "timeout", "Answer sooner.", 3, 5, generation=1)
    assert await deliver(0) == []
    for harmless in (replace(failed, failed_in_a_row=2), replace(failed, generation=2)):
        tests.append(harmless)
        assert await deliver(len(tests)) == []
    tests.append(failed)
    assert await deliver(10) == [5]
    assert await deliver(11) == [5]
    tests.append(replace(failed, time_ms=6))
    assert await deliver(12) == [5, 6]
    flow.endpoint.outcomes = [answer(500)]
    tests.append(replace(failed, time_ms=7))
    assert (await deliver(13))[-1] == 6


async def test_days_of_failures_disable(clock: Clock) -> None:
    """An endpoint that has only failed for five days is warned of, then disabled."""
    flow = sending(answer(500))
    paced(flow, clock)
    for number in range(31):
        await flow(delivered(another(number), offset=number))
        clock.now += DAY_MS / 6
    told = [CODEC.event(read("events", record.value)).type for record in flow.publisher.to("events")]
    assert told == ["endpoint.failing", "endpoint.failing", "endpoint.disabled"]
    assert flow.publisher.attempts[-1].verdict == "rejected"


async def test_a_recovery_tells_what_it_was_from(clock: Clock) -> None:
    """Who hears of a recovery learns how long it had failed, and how often."""
    flow = sending(answer(500), answer(500), answer(200))
    paced(flow, clock)
    for number in range(3):
        await flow(delivered(another(number), offset=number))
        clock.now += 1.1 * DAY_MS
    *_, told = [CODEC.event(read("events", record.value)) for record in flow.publisher.to("events")]
    assert told.type == "endpoint.recovered"
    assert json.loads(told.data)["failures"] == 2


async def test_another_owner_goes_on_where_the_first_was(clock: Clock) -> None:
    """The end of the reserved time and the open breaker hold for whoever gets the partition."""
    reserved = EndpointState(
        "acme", "wh_1", 1, reserved_until_ms=NOW_MS + 3_000_000, capacity=10.0, failing_since_ms=NOW_MS - 5
    )
    flow = sending(answer(200))
    paced(flow, clock, stored=reserved, rate=10)
    await flow(delivered(another(0), offset=0))
    assert of_headers(flow.publisher.written[0].headers).slot_ms >= NOW_MS + 3_000_000


async def test_a_newer_webhook_begins_anew(clock: Clock) -> None:
    """A state of an older generation counts for nothing, also one that is in force when the webhook changes."""
    old = EndpointState("acme", "wh_1", 1, disabled=True, reason="gone")
    flow = sending(answer(200))
    paced(flow, clock, stored=old, generation=2)
    await flow(delivered(another(0), offset=0))
    assert [attempt.verdict for attempt in flow.publisher.attempts] == ["delivered"]
    flow = sending(answer(410), answer(200))
    paced(flow, clock)
    await flow(delivered(another(0), offset=0))
    held = flow.targets.there["acme/wh_1"]
    flow.targets.there["acme/wh_1"] = replace(held, subscription=replace(held.subscription, generation=2))
    await flow(delivered(another(1), offset=1))
    assert [attempt.verdict for attempt in flow.publisher.attempts] == ["gone", "delivered"]


async def test_idle_endpoints_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds a bounded number of endpoints; those at work are among them."""
    monkeypatch.setattr(module, "KNOWN", 10)
    endpoints = Endpoints(CODEC, Slow(), HEALTH, LADDER, clock=clock, stored=lambda _: None)
    busy = endpoints.of(target(webhook="wh_busy").subscription)
    endpoints.enter(busy, 0)
    for number in range(200):
        endpoints.of(target(webhook=f"wh_{number}").subscription)
    assert len(endpoints._known) == 10
    assert endpoints.of(busy.webhook) is busy


async def test_a_time_in_which_we_stood_still_is_not_the_endpoints(clock: Clock) -> None:
    """Requests that ended long after their deadline say that this process was stopped: they open no breaker."""
    flow = sending(*[Outcome(Verdict.TIMEOUT, None, (), b"", 75_000)] * 30, answer(200))
    made = paced(flow, clock)
    for number in range(31):
        await flow(delivered(another(number), offset=number))
    endpoint = made.of(flow.targets.there["acme/wh_1"].subscription)
    assert [attempt.verdict for attempt in flow.publisher.attempts][-1] is Verdict.DELIVERED
    assert endpoint.state.failures == 0
    assert not endpoint.lane.breaker.trying
