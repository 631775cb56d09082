from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline.flow.deadletter import Reason, Source
from pipeline.flow.deliver import Answers, Carriage, Dead, Done, Outcome, Retry, Skipped, Verdict
from pipeline.flow.retry import Ladder
from pipeline.profiles import PROFILES
from pipeline.workers.carriage import of_headers, to_headers
from tests.workers.parts import CODEC, DELIVERY, NOW_MS, Handle, answer, delivered, read, sending, settled, target

_OF_REPLAYS = {"webhook-replay-id", "webhook-first-id"}


async def test_a_delivery_arrives() -> None:
    """A request is made, its attempt is written, and nothing else."""
    flow = sending(answer(200, ("Server", "x")))
    await flow(delivered(carriage=Carriage("r1", 3)))
    (attempt,) = flow.publisher.attempts
    (request,) = flow.endpoint.requests
    assert flow.log == ["request", "write attempts"]
    assert (request.url, request.body) == ("https://example.com/hook", DELIVERY.body)
    assert (attempt.delivery, attempt.round, attempt.hop, attempt.attempt) == ("msg_1", "r1", 3, 1)
    assert (attempt.event, attempt.tenant, attempt.webhook, attempt.type) == ("evt-1", "acme", "wh_1", "order.paid")
    assert (attempt.started_ms, attempt.duration_ms) == (NOW_MS, 12)
    assert (attempt.verdict, attempt.status_code, attempt.next) == (Verdict.DELIVERED, 200, Done())
    assert (attempt.response_headers, attempt.response_body) == ((("Server", "x"),), b"said")
    assert attempt.answers == Answers(3, 5)
    assert flow.attempts == [attempt]


async def test_what_is_new_is_urgent_to_who_takes_it_at_once() -> None:
    """Not what has been on the ladder, or comes from a replay, and not what goes to an endpoint of unknown health."""
    flow = sending(answer(200))
    await flow(delivered())
    assert flow.sender.urgent(delivered())
    assert not flow.sender.urgent(delivered(carriage=Carriage(hop=1)))
    assert not flow.sender.urgent(replace(delivered(), key=b"acme/wh_2"))


async def test_an_attempt_goes_to_the_partition_of_its_delivery() -> None:
    """Attempts are written to the partition number that the delivery was read from, under its key."""
    flow = sending(answer(200))
    await flow(delivered())
    (out,) = flow.publisher.to("attempts")
    assert (out.partition, out.key) == (3, b"acme/wh_1")


async def test_an_attempt_shows_no_secret() -> None:
    """What proves the sender is masked in the attempt, and was in the request."""
    flow = sending(answer(200))
    await flow(delivered())
    sent, kept = dict(flow.endpoint.requests[0].headers), dict(flow.publisher.attempts[0].request_headers)
    assert sent["webhook-signature"].startswith("v1,")
    assert kept["webhook-signature"] == "***"
    assert sent["webhook-id"] == kept["webhook-id"] == "msg_1"


@pytest.mark.parametrize(("outcome", "attempt"), [(answer(200), 1), (answer(500), 1), (answer(500), 10)])
async def test_effects_come_in_their_order(outcome: Outcome, attempt: int) -> None:
    """The attempt is reported before its effect is written, and the effect before the record is finished."""
    flow = sending(outcome)
    flow.publisher.by_hand = True
    handle = Handle()
    work = flow(delivered(replace(DELIVERY, attempt=attempt)), handle)
    await settled()
    assert flow.log == ["request", "write attempts"]
    effects = 0 if outcome.status == 200 else 1
    for reported in range(effects + 1):
        assert not handle.released
        assert len(flow.publisher.written) == reported + 1
        flow.publisher.reports[reported].set_result(None)
        await settled()
    assert handle.released
    await work


async def test_the_answer_is_told_before_it_is_written_down() -> None:
    """Whoever paces the requests learns of the end of one before the broker has to be waited for."""
    flow = sending(answer(200))
    await flow(delivered(), Handle(flow.log))
    assert flow.log == ["request", "answered", "write attempts", "released"]


async def test_a_failure_is_tried_again() -> None:
    """The next attempt waits in the largest tier within its wait: hop and attempt raised, the body unchanged."""
    flow = sending(answer(503))
    await flow(delivered(replace(DELIVERY, attempt=2), Carriage("r1", 4, 0, 99)))
    out = flow.publisher.written[-1]
    assert flow.publisher.attempts[0].next == Retry(300_000)
    assert (out.topic, out.key, out.partition) == ("retry-3m", b"acme/wh_1", None)
    assert of_headers(out.headers) == Carriage("r1", 5, 300_000, 99)
    assert CODEC.delivery(out.value) == replace(DELIVERY, attempt=3)


async def test_a_failure_that_no_answer_told_is_tried_again() -> None:
    """No answer at all is a verdict like any other."""
    flow = sending(Outcome(Verdict.TIMEOUT, None, (), b"", 15_000))
    await flow(delivered())
    (attempt,) = flow.publisher.attempts
    assert (attempt.verdict, attempt.status_code, attempt.next) == (Verdict.TIMEOUT, None, Retry(5_000))
    assert flow.publisher.written[-1].topic == "retry-5s"


async def test_a_wait_is_a_sum_of_the_ladder_in_force() -> None:
    """The tier is one of the ladder that the sender was given."""
    flow = sending(answer(500), ladder=Ladder.parse("retry-60s=50ms retry-5s=1s"))
    await flow(delivered())
    assert flow.publisher.written[-1].topic == "retry-5s"
    assert of_headers(flow.publisher.written[-1].headers).wait_ms == 5_000


@pytest.mark.parametrize(
    ("outcome", "attempt", "reason"),
    [
        (answer(410), 1, Reason.GONE),
        (Outcome(Verdict.BLOCKED, None, (), b"", 0), 1, Reason.BLOCKED),
        (answer(500), 10, Reason.EXHAUSTED),
    ],
)
async def test_what_cannot_arrive_ends_in_a_dead_letter(outcome: Outcome, attempt: int, reason: Reason) -> None:
    """The letter names the reason and holds the delivery and its last attempt."""
    flow = sending(outcome)
    delivery = replace(DELIVERY, attempt=attempt)
    await flow(delivered(delivery, offset=8))
    (out,) = flow.publisher.to("retry-dlq")
    letter = CODEC.dead_letter(out.value)
    assert (letter.reason, letter.source) == (reason, Source("deliveries", 3, 8))
    assert letter.delivery == delivery
    assert letter.last_attempt == flow.publisher.attempts[0]
    assert flow.publisher.attempts[0].next == Dead(reason)
    assert out.key == b"acme/wh_1"


@pytest.mark.parametrize("there", ["gone", "inactive"])
async def test_a_webhook_that_is_gone_or_inactive_is_skipped(there: str) -> None:
    """No request is made, and the attempt says so: nothing ends without one."""
    flow = sending(answer(200))
    flow.targets.there = {} if there == "gone" else {"acme/wh_1": target(active=False)}
    await flow(delivered())
    (attempt,) = flow.publisher.attempts
    assert (attempt.verdict, attempt.next, attempt.status_code) == (Verdict.SKIPPED, Skipped(), None)
    assert flow.log == ["reached 11", "write attempts"]


@pytest.mark.parametrize("there", ["gone", "inactive"])
async def test_a_webhook_is_gone_only_for_a_view_that_is_new_enough(there: str) -> None:
    """A webhook is judged when the view has passed the offset that the router had read up to."""
    flow = sending(answer(200))
    flow.targets.arriving = flow.targets.there
    flow.targets.there = {} if there == "gone" else {"acme/wh_1": target(active=False)}
    await flow(delivered())
    assert flow.log == ["reached 11", "request", "write attempts"]


async def test_a_repeat_is_dropped() -> None:
    """A copy with the same id, round and hop as a finished one causes nothing."""
    flow = sending(answer(200))
    for offset in (5, 6):
        await flow(delivered(offset=offset))
    assert flow.log == ["request", "write attempts"]


async def test_a_repeat_of_a_postponed_copy_is_dropped() -> None:
    """Postponed counts as finished; the postponed writing itself, with its higher hop, is sent."""
    flow = sending(answer(500), answer(200))
    await flow(delivered())
    await flow(delivered(offset=6))
    assert flow.log == ["request", "write attempts", "write retry-5s"]
    out = flow.publisher.to("retry-5s")[0]
    await flow(read(value=out.value, offset=7, headers=out.headers))
    assert [attempt.attempt for attempt in flow.attempts] == [1, 2]


async def test_a_repeat_joins_the_copy_in_flight() -> None:
    """A copy that comes while the first is in flight waits for its end and makes no request."""
    flow = sending(answer(200))
    flow.endpoint.gate.clear()
    first, second = flow(delivered()), flow(delivered(offset=6))
    await settled()
    assert flow.log == ["request"]
    assert not second.done()
    flow.endpoint.gate.set()
    await asyncio.gather(first, second)
    assert flow.log == ["request", "write attempts"]


async def test_a_copy_of_an_attempt_that_was_made_is_dropped() -> None:
    """A copy under another hop whose attempt is not above the last of its round is dropped; other rounds are not."""
    flow = sending(answer(200))
    await flow(delivered(replace(DELIVERY, attempt=2), Carriage("", 3)))
    for attempt, hop in ((2, 4), (1, 5)):
        await flow(delivered(replace(DELIVERY, attempt=attempt), Carriage("", hop)))
    assert flow.log == ["request", "write attempts"]
    await flow(delivered(DELIVERY, Carriage("again", 0)))
    assert len(flow.endpoint.requests) == 2


async def test_an_undecodable_record_is_buried() -> None:
    """A record that cannot be read is a dead letter and is finished when that is durable."""
    flow = sending(answer(200))
    flow.publisher.by_hand = True
    work = flow(read(value=b"\x00\x00\x00\x00", offset=4))
    await settled()
    assert flow.log == ["write retry-dlq"]
    assert not work.done()
    letter = CODEC.dead_letter(flow.publisher.written[0].value)
    assert (letter.reason, letter.source.offset, letter.value) == (Reason.FRAMING, 4, b"\x00\x00\x00\x00")
    flow.publisher.reports[0].set_result(None)
    await work


async def test_unreadable_headers_are_buried() -> None:
    """A delivery whose headers cannot be read is never sent: its hop and round are not known."""
    flow = sending(answer(200))
    headers = (*to_headers(Carriage())[:1], ("hop", b"many"))
    await flow(read(value=CODEC.encode_delivery(DELIVERY), headers=headers))
    assert flow.log == ["write retry-dlq"]


async def test_an_exception_leaves_the_copy_workable() -> None:
    """What a client raises is our fault and is raised on, and the same copy can be worked on afterwards."""
    flow = sending(RuntimeError("ours"), answer(200))
    with pytest.raises(RuntimeError, match="ours"):
        await flow(delivered())
    assert flow.log == ["request"]
    await asyncio.wait_for(flow(delivered()), 5)
    assert flow.log == ["request", "request", "write attempts"]


async def test_whoever_waits_takes_over_from_an_exception() -> None:
    """A repeat that has joined a copy which then fails is worked on itself."""
    flow = sending(RuntimeError("ours"), answer(200))
    flow.endpoint.gate.clear()
    first, second = flow(delivered()), flow(delivered(offset=6))
    await settled()
    flow.endpoint.gate.set()
    with pytest.raises(RuntimeError, match="ours"):
        await first
    await asyncio.wait_for(second, 5)
    assert flow.publisher.attempts[0].answers == Answers(3, 6)


async def test_an_attempt_that_was_not_written_is_not_carried_out() -> None:
    """When the broker refuses the attempt, no effect is written, and the copy can be worked on again."""
    flow, handle = sending(answer(500)), Handle()
    flow.publisher.by_hand = True
    work = flow(delivered(), handle)
    await settled()
    flow.publisher.reports[0].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await work
    assert not handle.released
    assert flow.log == ["request", "write attempts"]
    flow.publisher.by_hand = False
    await asyncio.wait_for(flow(delivered()), 5)
    assert flow.log == ["request", "write attempts"] * 2 + ["write retry-5s"]


async def test_an_effect_that_was_not_written_keeps_the_record() -> None:
    """When the broker refuses the effect, the record is not released: the next owner finds the attempt."""
    flow, handle = sending(answer(500)), Handle()
    flow.publisher.by_hand = True
    work = flow(delivered(), handle)
    await settled()
    flow.publisher.reports[0].set_result(None)
    await settled()
    flow.publisher.reports[1].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await work
    assert flow.log == ["request", "write attempts", "write retry-5s"]
    assert not handle.released


async def test_a_letter_that_was_not_written_keeps_the_record() -> None:
    """A record that cannot be read is released only when its dead letter is durable."""
    flow, handle = sending(answer(200)), Handle()
    flow.publisher.by_hand = True
    work = flow(read(value=None), handle)
    await settled()
    assert not handle.released
    flow.publisher.reports[0].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await work
    assert not handle.released


async def test_a_lost_partition_gets_attempts_alone() -> None:
    """Where a partition was lost while a request was in flight, the attempt is written and no effect of it."""
    flow, handle = sending(answer(500)), Handle()
    flow.endpoint.gate.clear()
    work = flow(delivered(), handle)
    await settled()
    handle.lose()
    flow.endpoint.gate.set()
    await work
    assert flow.log == ["request", "write attempts"]
    assert not handle.released


async def test_what_a_lost_partition_owes_is_done_when_it_comes_back() -> None:
    """The same record, read again after its partition was lost, is not sent again: its attempt is carried out."""
    flow, handle = sending(answer(500)), Handle()
    flow.endpoint.gate.clear()
    work = flow(delivered(), handle)
    await settled()
    handle.lose()
    flow.endpoint.gate.set()
    await work
    await flow(delivered(offset=6))
    await flow(delivered(), again := Handle())
    assert flow.log == ["request", "write attempts", "write retry-5s"]
    assert again.released


async def test_nothing_is_sent_of_a_partition_that_was_given_up() -> None:
    """A record that still waits for the view when its partition is given up makes no request and is not released."""
    flow, handle = sending(answer(200)), Handle()
    flow.targets.there = {}
    flow.targets.arriving = {"acme/wh_1": target()}
    handle.open = False
    await flow(delivered(), handle)
    assert flow.log == ["reached 11"]
    assert not handle.released
    await flow(delivered())
    assert flow.log == ["reached 11", "request", "write attempts"]


async def test_whoever_waited_for_a_cut_request_sends_nothing() -> None:
    """When a drain cuts a request, a repeat that waits for it takes its place, and makes no request any more."""
    flow, handles = sending(answer(200)), [Handle(), Handle()]
    flow.endpoint.gate.clear()
    first, second = flow(delivered(), handles[0]), flow(delivered(offset=6), handles[1])
    await settled()
    for handle in handles:
        handle.open = False
    first.cancel()
    await asyncio.wait([first])
    await asyncio.wait_for(second, 5)
    assert flow.log == ["request"]
    assert not handles[1].released


async def test_the_product_judges() -> None:
    """The deadline, what counts as delivered and when to try again are the product's own."""
    flow = sending(answer(201), profile=PROFILES["inspectorio"])
    await flow(delivered())
    assert flow.endpoint.requests[0].deadline_s == 60
    assert flow.publisher.attempts[0].verdict is Verdict.REJECTED
    assert flow.publisher.written[-1].topic == "retry-60s"


@pytest.mark.replay
@pytest.mark.parametrize(
    ("first", "told"),
    [("msg_0", {"webhook-replay-id": "rpl_1", "webhook-first-id": "msg_0"}), (None, {"webhook-replay-id": "rpl_1"})],
)
async def test_a_receiver_is_told_of_a_replay(first: str | None, told: dict[str, str]) -> None:
    """A replay's request names it, and the id under which the event came first; the attempt shows both."""
    flow = sending(answer(200))
    await flow(delivered(replace(DELIVERY, replay="rpl_1", first=first)))
    (request,), (attempt,) = flow.endpoint.requests, flow.publisher.attempts
    for headers in (dict(request.headers), dict(attempt.request_headers)):
        assert {name: value for name, value in headers.items() if name in _OF_REPLAYS} == told


@pytest.mark.replay
async def test_an_ordinary_request_names_no_replay() -> None:
    """What is no replay's has none of its headers."""
    flow = sending(answer(200))
    await flow(delivered())
    assert not _OF_REPLAYS & {name for name, _ in flow.endpoint.requests[0].headers}


@pytest.mark.replay
async def test_every_record_that_is_taken_up_is_told_of() -> None:
    """Also one that is no delivery, or a repeat: it has waited like the others."""
    flow, told = sending(answer(200)), list[int]()
    flow.sender = replace(flow.sender, took_up=lambda record: told.append(record.offset))
    await flow(delivered())
    await flow(delivered(offset=6))
    await flow(read(value=b"poison", offset=7))
    assert told == [5, 6, 7]
