"""From a dead letter alone everything can be rebuilt: a letter of every reason, made by the role that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import fastavro
import pytest

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import DeadLetter, LetterState, Reason, Source
from pipeline.flow.deliver import Carriage, Outcome, Verdict
from pipeline.flow.expressions import compiled
from pipeline.flow.filters import Content
from pipeline.flow.history import DeadSeen
from pipeline.flow.replay import Ordered, Replay
from pipeline.kafka import schemas
from pipeline.kafka.codec import Codec
from pipeline.kafka.writers import parsed
from pipeline.ports import UNREADABLE, Outgoing, Record
from pipeline.profiles import PROFILES
from pipeline.workers.carriage import FIRST, LIMIT, of_headers, to_headers
from pipeline.workers.dead import record_in, round_of
from pipeline.workers.delay import Delay
from pipeline.workers.redrive import Had, Redrive, Redriven, Unredrivable, round_in, wanted
from pipeline.workers.router import Router
from tests.workers.parts import (
    CODEC,
    DELIVERY,
    HEADS,
    LADDER,
    NOW_MS,
    UNDERTAKER,
    answer,
    delivered,
    read,
    sending,
)
from tests.workers.test_router import EVENT, Tenants, produced

pytestmark = pytest.mark.replay

ROUND = "0" * 25 + "V"
FOREIGN = 77
"""The id of a schema that the registry did not know at first."""


@dataclass
class Was:
    """What there was, in memory. `schemas` are those that the registry knows by now."""

    codec: Codec = field(default_factory=lambda: CODEC)
    there: dict[Source, Record] = field(default_factory=dict)
    had: list[Had] = field(default_factory=list)
    schemas: dict[int, str] = field(default_factory=dict)

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """As the registry answers."""
        assert list(values)
        for number, name in self.schemas.items():
            known = parsed([schemas.load(name)])
            assert known is not None
            self.codec.writers[number] = known

    async def record(self, source: Source) -> Record | None:
        """If it is there."""
        return self.there.get(source)

    async def deliveries(self, tenant: str, event: str) -> Sequence[Had]:
        """Of one event."""
        assert (tenant, event) == (EVENT.tenant, EVENT.id)
        return self.had


def codec() -> Codec:
    """One that has learned nothing yet."""
    return Codec(CODEC.client, HEADS)


def foreign(value: bytes) -> bytes:
    """The same record under a schema id that is not ours."""
    return b"\0" + FOREIGN.to_bytes(4) + value[5:]


def routed(record: Record, tenants: Tenants | None = None, by: Codec = CODEC) -> list[Outgoing]:
    return Router(by, tenants or Tenants(), UNDERTAKER)(record)


def letters(outs: Iterable[Outgoing]) -> list[DeadLetter]:
    return [CODEC.dead_letter(out.value) for out in outs if out.topic == "retry-dlq"]


async def redriven(letter: DeadLetter, was: Was | None = None, tenants: Tenants | None = None) -> Redriven:
    made = await attempted(letter, was, tenants)
    assert isinstance(made, Redriven), made
    return made


async def attempted(
    letter: DeadLetter, was: Was | None = None, tenants: Tenants | None = None
) -> Redriven | Unredrivable:
    was = was or Was()
    return await Redrive(was.codec, tenants or Tenants(), was, lambda: NOW_MS + 9)(letter, ROUND)


def stands(made: Redriven) -> DeadLetter:
    """The letter, as it is written anew."""
    assert made.letter is not None
    return CODEC.dead_letter(made.letter.value)


async def dead_of(outcome: Outcome, attempt: int = 1, profile: str = "standard") -> DeadLetter:
    """What a sender makes of a delivery whose endpoint answers so."""
    flow = sending(outcome, profile=PROFILES[profile])
    await flow(delivered(replace(DELIVERY, attempt=attempt), Carriage("R1", 4)))
    (letter,) = letters(flow.publisher.written)
    return letter


TIMEOUT, BLOCKED = (Outcome(verdict, None, (), b"", 5) for verdict in (Verdict.TIMEOUT, Verdict.BLOCKED))
LAST = 10
OF_SENDER = {
    Reason.REJECTED: (answer(400), 1, "monitorqa"),
    Reason.GONE: (answer(410), 1, "standard"),
    Reason.BLOCKED: (BLOCKED, 1, "standard"),
    Reason.EXHAUSTED: (TIMEOUT, LAST, "standard"),
}


@pytest.mark.parametrize("reason", OF_SENDER)
async def test_a_delivery_that_could_not_arrive_goes_again(reason: Reason) -> None:
    """The same id and the same bytes to the same webhook, from attempt 1, in a round of its own."""
    outcome, attempt, profile = OF_SENDER[reason]
    letter = await dead_of(outcome, attempt, profile)
    assert letter.reason is reason
    made = await redriven(letter)
    (out,) = made.deliveries
    assert (out.topic, out.key, made.letter) == ("deliveries", b"acme/wh_1", None)
    assert CODEC.delivery(out.value) == DELIVERY
    assert of_headers(out.headers) == Carriage(ROUND)


async def test_an_order_over_many_is_named_by_what_it_sends() -> None:
    """Deliveries that go again and those of events routed anew: so they are counted, and end with its cancelling."""
    (routable,) = letters(routed(produced(), Tenants({})))
    for letter, round_ in ((await dead_of(answer(410)), ROUND), (routable, "")):
        made = await Redrive(CODEC, Tenants(), Was(), lambda: NOW_MS, order="rpl_1")(letter, ROUND)
        assert isinstance(made, Redriven)
        assert {out.headers for out in made.deliveries} == {to_headers(Carriage(round_, order="rpl_1"))}


async def test_nothing_is_sent_to_a_webhook_that_is_closed() -> None:
    """A delivery that would only be skipped stays in its letter, and why is said."""
    letter = await dead_of(answer(410))
    closed = Redrive(CODEC, Tenants(), Was(), lambda: NOW_MS, closed=lambda path: f"{path} is gone")
    assert await closed(letter, ROUND) == Unredrivable("acme/wh_1 is gone")


REPAIRED = {
    Reason.UNKNOWN_TENANT: (EVENT, Tenants({})),
    Reason.UNKNOWN_TYPE: (EVENT, Tenants(profile="inspectorio")),
    Reason.INVALID: (replace(EVENT, type="report.created"), Tenants(profile="inspectorio")),
    Reason.UNDECODABLE: (EVENT, Tenants(unreadable=Undecodable(Reason.UNDECODABLE, "not yet"))),
}


@pytest.mark.parametrize("reason", REPAIRED)
async def test_an_event_is_routed_once_what_was_wrong_has_been_repaired(reason: Reason) -> None:
    """It comes to the very deliveries that the router would have made; the letter says that it is done."""
    event, before = REPAIRED[reason]
    record = produced(event, headers=(("trace", b"\x01\xff"),))
    (letter,) = letters(routed(record, before))
    assert letter.reason is reason
    made = await redriven(letter)
    assert list(made.deliveries) == routed(record)
    assert {out.headers for out in made.deliveries} == {FIRST}
    assert stands(made) == replace(letter, redriven_ms=NOW_MS + 9)
    assert await attempted(letter, tenants=before) == Unredrivable(letter.detail)


async def test_an_event_is_decoded_once_its_schema_is_known() -> None:
    """The bytes are in the letter; the registry has learned how to read them."""
    record, fresh = produced(), codec()
    record = replace(record, value=foreign(record.value or b""))
    (letter,) = letters(routed(record, by=fresh))
    assert letter.reason is Reason.UNKNOWN_SCHEMA
    still = await attempted(letter, Was(fresh))
    assert isinstance(still, Unredrivable)
    made = await redriven(letter, Was(fresh, schemas={FOREIGN: "event"}))
    assert list(made.deliveries) == routed(record, by=fresh)


async def test_an_event_is_decoded_once_its_schema_has_been_repaired() -> None:
    """A schema that was not the bytes' own is: what could not be read is read, and routed."""
    record, broken = produced(), codec()
    record = replace(record, value=foreign(record.value or b""))
    wrong = parsed([{"type": "record", "name": "E", "fields": [{"name": "a", "type": "int"}]}])
    assert wrong is not None
    broken.writers[FOREIGN] = wrong
    (letter,) = letters(routed(record, by=broken))
    assert letter.reason is Reason.UNDECODABLE
    assert list((await redriven(letter, Was(codec(), schemas={FOREIGN: "event"}))).deliveries) == routed(
        replace(record, value=CODEC.encode_event(EVENT))
    )


async def test_what_is_in_no_wire_format_is_kept_to_the_last_byte() -> None:
    """Nothing can be made of it; the record can be: value, key, headers, place and time."""
    record = read("events", b"\xff{}", 9, key=b"k", headers=(("h", b"\x00"), ("h", b"2")))
    (letter,) = letters(routed(record))
    assert letter.reason is Reason.FRAMING
    assert record_in(letter) == record
    made = await attempted(letter)
    assert isinstance(made, Unredrivable)
    assert "wire format" in made.reason


def test_headers_that_no_client_can_tell_stay_such() -> None:
    """A record whose headers could not be read is not taken for one that has none."""
    (letter,) = letters(routed(produced(headers=UNREADABLE)))
    rebuilt = record_in(letter)
    assert rebuilt is not None
    assert rebuilt.headers is UNREADABLE


async def test_a_body_that_was_too_large_goes_once_it_is_not() -> None:
    """Only the webhook that got nothing gets it, by a projection made since; its neighbour is not sent it again."""
    record, small = produced(replace(EVENT, data='{"a": 1, "b": "' + "x" * LIMIT + '"}')), Content(None, compiled("id"))
    before = routed(record, Tenants(contents={"wh_2": small}))
    (letter,) = letters(before)
    assert (letter.reason, len(before)) == (Reason.TOO_LARGE, 2)
    neighbour = CODEC.delivery(before[1].value)
    was = Was(had=[Had(neighbour.id, "wh_2", 3, 9)])
    made = await redriven(letter, was, Tenants(contents={"wh_1": small}))
    assert [out.key for out in made.deliveries] == [b"acme/wh_1"]
    again = await attempted(letter, was, Tenants(contents={"wh_2": small}))
    assert isinstance(again, Unredrivable)
    assert "wh_1" in again.reason


async def test_webhooks_that_still_cannot_be_judged_keep_the_letter() -> None:
    """Those that can be by now get the event; for the others the letter waits on, under its id, in its new words."""
    unfit = Content(compiled("a ="))
    (letter,) = letters(routed(produced(), Tenants(contents={"wh_1": unfit, "wh_2": unfit})))
    made = await redriven(letter, tenants=Tenants(contents={"wh_2": unfit}))
    assert [out.key for out in made.deliveries] == [b"acme/wh_1"]
    assert (stands(made).id, stands(made).redriven_ms) == (letter.id, None)
    assert "wh_2" in stands(made).detail
    assert "wh_1" not in stands(made).detail


async def test_what_is_wrong_by_now_is_said_by_the_same_letter() -> None:
    """Its tenant is there, but one webhook cannot be judged: there is one letter still, of that reason, of its time."""
    (letter,) = letters(routed(produced(), Tenants({})))
    made = await redriven(letter, tenants=Tenants(contents={"wh_2": Content(compiled("a ="))}))
    assert [out.key for out in made.deliveries] == [b"acme/wh_1"]
    assert stands(made) == replace(letter, reason=Reason.UNDECODABLE, detail=stands(made).detail)
    assert "wh_2" in stands(made).detail


@pytest.mark.parametrize("replayed", [False, True])
async def test_who_has_the_event_is_not_sent_it_again(*, replayed: bool) -> None:
    """Neither where the log has this delivery, nor where a replay has delivered the record that the letter is of."""
    (letter,) = letters(routed(produced(), Tenants({})))
    first, second = (CODEC.delivery(out.value) for out in routed(produced()))
    had = [Had("msg_of_a_replay", "wh_1", 3, 9) if replayed else Had(first.id, "wh_1", None, None)]
    other_event = Had("msg_other", "wh_2", 3, 8)
    made = await redriven(letter, Was(had=[*had, other_event]))
    assert [CODEC.delivery(out.value) for out in made.deliveries] == [second]
    every = Was(had=[*had, Had(second.id, "wh_2", None, None)])
    assert await attempted(letter, every) == Unredrivable(
        "every webhook that wants the event has its delivery: redeliver one that has failed"
    )


async def test_an_event_that_nobody_wants_by_now_stays() -> None:
    """Without a webhook there is nothing to send, and nobody is told that there was."""
    (letter,) = letters(routed(produced(), Tenants({})))
    made = await attempted(letter, tenants=Tenants({"acme": ()}))
    assert isinstance(made, Unredrivable)
    assert "no webhook wants the event" in made.reason


async def test_a_value_that_was_cut_is_read_where_it_lay() -> None:
    """A letter that could not carry its record points to it; once retention has taken that, nothing can be made."""
    huge = produced(headers=(("h", bytes(9 * 1024 * 1024)),))
    (letter,) = letters(routed(huge, Tenants({})))
    assert letter.digest is not None
    source = Source("events", 3, 9)
    made = await redriven(letter, Was(there={source: huge}))
    assert list(made.deliveries) == routed(huge)
    assert stands(made).digest == letter.digest
    assert await attempted(letter) == Unredrivable(
        "its record was too large to be carried, and events does not hold it any more"
    )


@pytest.mark.parametrize("topic", ["deliveries", "retry-20s"])
async def test_a_delivery_that_could_not_be_read_is_decoded_again(topic: str) -> None:
    """It goes from attempt 1, and its letter is written anew with it, so that the log knows whose it is."""
    known, value = codec(), foreign(CODEC.encode_delivery(replace(DELIVERY, attempt=3)))
    letter = CODEC.dead_letter(
        UNDERTAKER.bury(read(topic, value, headers=to_headers(Carriage("R1", 2))), Reason.UNKNOWN_SCHEMA, "77").value
    )
    assert isinstance(await attempted(letter, Was(known)), Unredrivable)
    made = await redriven(letter, Was(known, schemas={FOREIGN: "delivery"}))
    assert [CODEC.delivery(out.value) for out in made.deliveries] == [DELIVERY]
    assert stands(made) == replace(letter, delivery=replace(DELIVERY, attempt=3))
    assert (made.letter and made.letter.key, round_of(stands(made))) == (b"acme/wh_1", "R1")


async def test_a_letter_that_has_got_its_delivery_still_fits() -> None:
    """The largest delivery beside the bytes that it was read from would be more than the topic takes."""
    known, large = codec(), replace(DELIVERY, body=bytes(LIMIT - 400))
    record = read(value=foreign(CODEC.encode_delivery(large)), headers=FIRST)
    letter = CODEC.dead_letter(UNDERTAKER.bury(record, Reason.UNKNOWN_SCHEMA, "77").value)
    made = await redriven(letter, Was(known, schemas={FOREIGN: "delivery"}))
    assert made.letter is not None
    assert made.letter.size < 8 * 1024 * 1024
    assert stands(made).delivery == large
    assert stands(made).digest is not None


async def test_a_delivery_whose_headers_were_unreadable_goes_again() -> None:
    """How it travelled is lost, and not needed: it begins anew."""
    record = read("retry-20s", CODEC.encode_delivery(DELIVERY), headers=(("hop", b"x"),))
    letter = CODEC.dead_letter(Delay(LADDER, UNDERTAKER)(record, 20_000).value)
    assert letter.reason is Reason.FRAMING
    (out,) = (await redriven(letter)).deliveries
    assert (CODEC.delivery(out.value), of_headers(out.headers)) == (DELIVERY, Carriage(ROUND))


async def test_a_delivery_that_no_router_wrote_is_not_sent() -> None:
    """Its letter says what is wrong with it, as the sender did."""
    letter = CODEC.dead_letter(
        UNDERTAKER.bury(delivered(replace(DELIVERY, webhook="../x")), Reason.INVALID, "id").value
    )
    made = await attempted(letter)
    assert isinstance(made, Unredrivable)
    assert made.reason.startswith("id, tenant and webhook")


async def test_the_time_of_a_cloud_event_without_one_is_its_records() -> None:
    """An event that does not say when it was has the time of its record: the letter keeps that."""
    value = b"\0" + FOREIGN.to_bytes(4) + b"\x02"
    headers = {"ce_specversion": "1.0", "ce_id": EVENT.id, "ce_type": "a.b", "ce_source": "s", "ce_tenant": "acme"}
    record = read("events", value, 9, headers=tuple((name, text.encode()) for name, text in headers.items()))
    record = replace(record, timestamp_ms=NOW_MS - 86_400_000)
    known = codec()
    (letter,) = letters(routed(record, Tenants({}), known))
    number = parsed([fastavro.parse_schema("int")])
    assert number is not None
    known.writers[FOREIGN] = number
    made = await redriven(letter, Was(known))
    assert list(made.deliveries) == routed(record, by=known)
    assert CODEC.delivery(made.deliveries[0].value).time_ms == NOW_MS - 86_400_000


ORDER = Replay("rpl_1", "acme", Ordered.RUNNING, (), created_ms=NOW_MS)


async def test_the_round_of_an_order_is_the_same_for_a_repeat() -> None:
    """One letter has one round of an order, greater than that in which it ended; another letter, or order, another."""
    letter = await dead_of(answer(410))
    round_ = round_in(ORDER, letter)
    assert round_ == round_in(replace(ORDER, ordered=Ordered.PAUSED, updated_ms=NOW_MS + 5), letter)
    others = {round_in(ORDER, replace(letter, id="dl_2")), round_in(replace(ORDER, id="rpl_2"), letter)}
    assert len({round_, *others}) == 3
    late = replace(letter, last_attempt=letter.last_attempt and replace(letter.last_attempt, round=round_))
    assert round_in(replace(ORDER, created_ms=1), late) > round_


SEEN = DeadSeen("dl_1", "acme", "wh_1", "msg_1", "", "gone", NOW_MS, 0, 0, "", "evt-1", "order.paid")


@pytest.mark.parametrize(
    ("order", "means"),
    [
        (ORDER, True),
        (replace(ORDER, tenant=None), True),
        (replace(ORDER, tenant="other"), False),
        (replace(ORDER, types=("order.paid",), webhooks=("wh_1",), reasons=("gone",)), True),
        (replace(ORDER, types=("order.*",)), False),
        (replace(ORDER, webhooks=("wh_2",)), False),
        (replace(ORDER, reasons=("exhausted",)), False),
        (replace(ORDER, from_ms=NOW_MS, to_ms=NOW_MS + 1), True),
        (replace(ORDER, from_ms=NOW_MS + 1), False),
        (replace(ORDER, to_ms=NOW_MS), False),
    ],
)
def test_an_order_means_what_its_list_shows(order: Replay, *, means: bool) -> None:
    """Every filter, as the list of dead letters has it; and those alone that wait."""
    assert wanted(order, SEEN, LetterState.WAITING) is means
    for state in set(LetterState) - {LetterState.WAITING}:
        assert not wanted(order, SEEN, state)
