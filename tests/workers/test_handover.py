from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Carriage, Delivery, Outcome, Retry
from pipeline.flow.retry import Ladder
from pipeline.ports import Record
from pipeline.profiles import PROFILES
from pipeline.workers import handover as module
from pipeline.workers.carriage import of_headers
from pipeline.workers.delay import Delay
from pipeline.workers.handover import HandOver
from pipeline.workers.repeats import Made, Repeats
from tests.workers.parts import (
    CODEC,
    DELIVERY,
    LADDER,
    UNDERTAKER,
    Handle,
    Sending,
    Slow,
    answer,
    delivered,
    read,
    sending,
    settled,
)

PLACE = ("deliveries", 3)


def carriers(flow: Sending, offset: int = 40) -> list[Record]:
    """The carriers that were written, as they come back from the delay role to `deliveries`."""
    waited = [out for out in flow.publisher.written if any(name == "stands-for" for name, _ in out.headers)]
    back = []
    for place, out in enumerate(waited, offset):
        record = read(out.topic, out.value, place, headers=out.headers)
        while record.topic != "deliveries":
            on = Delay(LADDER, UNDERTAKER)(record, LADDER.tier_wait_ms(record.topic))
            record = read(on.topic, on.value, place, headers=on.headers)
        back.append(record)
    return back


async def in_flight(*outcomes: Outcome | Exception, handle: Handle, delivery: Delivery = DELIVERY) -> Sending:
    """A sender with one request under way."""
    flow = sending(*outcomes)
    flow.endpoint.gate.clear()
    flow(delivered(delivery, Carriage("r1", 4, 0, 99)), handle)
    await settled()
    return flow


async def handed_over(*outcomes: Outcome | Exception, delivery: Delivery = DELIVERY) -> Sending:
    """The same, and the request has been handed over."""
    flow = await in_flight(*outcomes, handle=Handle(), delivery=delivery)
    await flow.hand_over.sweep()
    return flow


async def answered(flow: Sending) -> None:
    """The request ends."""
    flow.endpoint.gate.set()
    await settled()


async def test_a_long_request_is_handed_over() -> None:
    """The delivery is written to the ladder with the rest of its deadline, one hop on, for the hop before."""
    flow = await handed_over(answer(200))
    out = flow.publisher.written[0]
    assert (out.topic, out.key, out.partition) == ("retry-20s", b"acme/wh_1", None)
    assert of_headers(out.headers) == Carriage("r1", 5, 20_000, 99, stands_for=4)
    assert CODEC.delivery(out.value) == DELIVERY


async def test_the_record_is_released_when_its_carrier_is_durable() -> None:
    """Neither offset nor place among the answering is given back before the carrier is reported durable."""
    handle = Handle()
    flow = await in_flight(answer(200), handle=handle)
    flow.publisher.by_hand = True
    sweeping = asyncio.create_task(flow.hand_over.sweep())
    await settled()
    assert (handle.log, handle.released) == ([], False)
    flow.publisher.reports[0].set_result(None)
    await sweeping
    assert handle.log == ["answered", "released"]


async def test_a_repeat_of_a_handed_over_request_is_released_with_it() -> None:
    """A copy that waits for a request does not hold its partition up for longer than the request itself does."""
    handle = Handle()
    flow = await in_flight(answer(200), handle=Handle())
    flow(delivered(carriage=Carriage("r1", 4), offset=6), handle)
    await settled()
    await flow.hand_over.sweep()
    await settled()
    assert handle.released
    assert flow.log == ["request", "write retry-20s"]


async def test_a_carrier_that_was_not_written_ends_the_process() -> None:
    """A refused carrier is a fault of ours, and its record is not released."""
    handle = Handle()
    flow = await in_flight(answer(200), handle=handle)
    flow.publisher.by_hand = True
    sweeping = asyncio.create_task(flow.hand_over.sweep())
    await settled()
    flow.publisher.reports[0].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await sweeping
    assert not handle.released


async def test_a_request_may_end_while_it_is_handed_over() -> None:
    """An answer that comes in the very turn of the look is no fault: the carrier is written, the attempt besides."""
    flow = await in_flight(answer(200), handle=Handle())
    flow.endpoint.gate.set()
    await flow.hand_over.sweep()
    await settled()
    assert sorted(flow.log) == ["request", "write attempts", "write retry-20s"]


async def test_only_long_requests_are_handed_over() -> None:
    """A request that is under way for less, and one that has its answer, stay where they are."""
    flow = await in_flight(answer(200), handle=Handle())
    await HandOver(flow.publisher, flow.repeats, LADDER, after_s=60).sweep()
    assert flow.log == ["request"]
    flow.publisher.by_hand = True
    await answered(flow)
    await flow.hand_over.sweep()
    assert flow.log == ["request", "write attempts"]


async def test_a_request_is_handed_over_once() -> None:
    """The next look leaves what has a carrier alone, durable or not."""
    flow = await in_flight(answer(200), handle=Handle())
    flow.publisher.by_hand = True
    sweeps = [asyncio.create_task(flow.hand_over.sweep()) for _ in range(2)]
    await settled()
    assert flow.log == ["request", "write retry-20s"]
    flow.publisher.reports[0].set_result(None)
    await asyncio.gather(*sweeps)
    await flow.hand_over.sweep()
    assert flow.log == ["request", "write retry-20s"]


async def test_the_end_of_a_handed_over_request_is_its_attempt_alone() -> None:
    """The carrier is the only one to carry the delivery on: the end of the request writes no effect."""
    flow = await handed_over(answer(500))
    await answered(flow)
    assert flow.log == ["request", "write retry-20s", "write attempts"]
    assert flow.publisher.attempts[0].next == Retry(5_000)


@pytest.mark.parametrize(
    ("outcome", "attempt", "effects"),
    [(answer(200), 1, []), (answer(500), 1, ["write retry-5s"]), (answer(500), 10, ["write retry-dlq"])],
)
async def test_a_carrier_carries_out_what_follows(outcome: Outcome, attempt: int, effects: list[str]) -> None:
    """Where the request has ended, the carrier makes none: it does what follows the attempt, once."""
    flow = await handed_over(outcome, delivery=replace(DELIVERY, attempt=attempt))
    await answered(flow)
    (carrier,) = carriers(flow)
    handle = Handle()
    await flow(carrier, handle)
    await flow(carrier)
    assert flow.log == ["request", "write retry-20s", "write attempts", *effects]
    assert handle.released


async def test_what_a_carrier_writes() -> None:
    """The retry comes after the carrier's hop and is no carrier; the dead letter names why and holds the delivery."""
    flow = await handed_over(answer(500))
    await answered(flow)
    (carrier,) = carriers(flow)
    await flow(carrier)
    out = flow.publisher.written[-1]
    assert of_headers(out.headers) == Carriage("r1", of_headers(carrier.headers).hop + 1, 5_000, 99)
    assert CODEC.delivery(out.value) == replace(DELIVERY, attempt=2)
    dead = await handed_over(answer(410))
    await answered(dead)
    await dead(carriers(dead)[0])
    letter = CODEC.dead_letter(dead.publisher.written[-1].value)
    assert (letter.reason, letter.delivery, letter.last_attempt) == (Reason.GONE, DELIVERY, None)


async def test_an_effect_of_a_carrier_is_durable_before_its_release() -> None:
    """A carrier is released when what it carried out is reported, and can be read again when that is refused."""
    flow, handle = await handed_over(answer(500)), Handle()
    await answered(flow)
    flow.publisher.by_hand = True
    (carrier,) = carriers(flow)
    work = flow(carrier, handle)
    await settled()
    flow.publisher.reports[-1].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await work
    assert handle.log == []
    again = flow(carrier, handle)
    await settled()
    flow.publisher.reports[-1].set_result(None)
    await again
    assert handle.released
    assert flow.log[-2:] == ["write retry-5s", "write retry-5s"]


async def test_a_carrier_waits_for_the_request_in_flight() -> None:
    """A carrier that comes while the request is still under way waits for its end, then does what follows."""
    flow = await handed_over(answer(500))
    (carrier,) = carriers(flow)
    work = flow(carrier)
    await settled()
    assert flow.log == ["request", "write retry-20s"]
    await answered(flow)
    await work
    assert flow.log == ["request", "write retry-20s", "write attempts", "write retry-5s"]


async def test_an_unknown_carrier_is_sent() -> None:
    """Where nobody knows the attempt, the one who made it has died: the carrier is sent as any delivery is."""
    dying, living = await handed_over(answer(500)), sending(answer(200))
    (carrier,) = carriers(dying)
    await living(carrier)
    assert living.log == ["catch up 3", "request", "write attempts"]
    (attempt,) = living.publisher.attempts
    assert (attempt.attempt, attempt.hop) == (1, of_headers(carrier.headers).hop)


async def test_a_carrier_looks_for_what_another_process_has_written() -> None:
    """An attempt that the former owner wrote after the partition had gone is found before anything is sent."""
    former, later = await handed_over(answer(500)), sending(answer(200))
    (carrier,) = carriers(former)
    later.elsewhere.append(((DELIVERY.id, "r1"), Made(1, Retry(5_000), 4, 5)))
    await later(carrier)
    assert later.log == ["catch up 3", "write retry-5s"]


async def test_a_carrier_of_what_was_sent_again_is_dropped() -> None:
    """A record that was read again and finished with all its effects leaves nothing to its carrier."""
    dying, living = await handed_over(answer(500)), sending(answer(500))
    (carrier,) = carriers(dying)
    await living(delivered(carriage=Carriage("r1", 4, 0, 99)))
    await living(carrier)
    assert living.log == ["request", "write attempts", "write retry-5s"]


async def test_a_request_that_ends_before_its_carrier_is_durable() -> None:
    """It is the carrier's all the same: the attempt alone is written, and the record waits for the carrier's report."""
    handle = Handle()
    flow = await in_flight(answer(500), handle=handle)
    flow.publisher.by_hand = True
    sweeping = asyncio.create_task(flow.hand_over.sweep())
    await settled()
    await answered(flow)
    flow.publisher.reports[1].set_result(None)
    await settled()
    assert handle.log == ["answered"]
    flow.publisher.reports[0].set_result(None)
    await sweeping
    assert handle.released
    flow.publisher.by_hand = False
    await flow(carriers(flow)[0])
    assert flow.log == ["request", "write retry-20s", "write attempts", "write retry-5s"]


async def test_a_partition_that_is_given_up_is_handed_over() -> None:
    """What is in flight of it is handed over however young it is; what is in flight of others stays."""
    handle = Handle()
    flow = await in_flight(answer(200), handle=handle)
    young = HandOver(flow.publisher, flow.repeats, LADDER)
    await young.give_up([("deliveries", 2)])
    assert flow.log == ["request"]
    await young.give_up([PLACE])
    assert flow.log == ["request", "write retry-20s"]
    assert handle.released


async def test_giving_up_waits_for_reports() -> None:
    """Carriers that are on their way already, and answers that are being written down, are waited for."""
    handles = Handle(), Handle()
    flow = await in_flight(answer(200), handle=handles[0])
    flow.publisher.by_hand = True
    sweeping = asyncio.create_task(flow.hand_over.sweep())
    await settled()
    flow.endpoint.gate.set()
    flow(delivered(replace(DELIVERY, id="msg_2")), handles[1])
    await settled()
    giving_up = asyncio.create_task(flow.hand_over.give_up([PLACE]))
    for report in flow.publisher.reports:
        await settled()
        assert not giving_up.done()
        report.set_result(None)
    await asyncio.wait_for(giving_up, 5)
    await sweeping
    assert all(handle.released for handle in handles)


async def test_giving_up_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that reports nothing holds no rebalance up: the record is not released, and is sent again elsewhere."""
    monkeypatch.setattr(module, "_REPORTS_S", 0.01)
    handle = Handle()
    flow = await in_flight(answer(200), handle=handle)
    flow.publisher.by_hand = True
    await asyncio.wait_for(flow.hand_over.give_up([PLACE]), 5)
    assert not handle.released


async def test_a_lost_partition_is_not_handed_over() -> None:
    """A carrier is an effect: what was lost is the new owner's to send."""
    handle = Handle()
    flow = await in_flight(answer(200), handle=handle)
    handle.lose()
    await flow.hand_over.sweep()
    await flow.hand_over.give_up([PLACE])
    assert flow.log == ["request"]


async def test_a_carrier_waits_longer_than_the_request_can_last() -> None:
    """The wait is the rest of the deadline and a second, rounded up by the ladder."""
    flow = sending(answer(201), profile=PROFILES["inspectorio"])
    flow.endpoint.gate.clear()
    flow(delivered())
    await settled()
    (copy,) = flow.repeats.under_way
    copy.since_s -= 19.5
    ladder = Ladder.parse("retry-60s=60s retry-1s retry-20s")
    await HandOver(flow.publisher, flow.repeats, ladder, after_s=19).sweep()
    assert of_headers(flow.publisher.written[0].headers).wait_ms == 42_000
    assert flow.publisher.written[0].topic == "retry-20s"


async def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight is looked over regularly, until the process ends."""
    monkeypatch.setattr(module, "_SWEEP_S", 0)
    flow = sending(answer(200))
    flow.endpoint.gate.clear()
    looking = asyncio.create_task(flow.hand_over.run())
    for number in range(2):
        flow(delivered(replace(DELIVERY, id=f"msg_{number}")))
        await settled()
    assert flow.log == ["request", "write retry-20s"] * 2
    looking.cancel()
    await asyncio.wait([looking])
    assert HandOver(Slow(), Repeats(), LADDER).after_s == 20
