"""The sender: makes one attempt of a delivery and writes down what follows from it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import assert_never

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Answers, Attempt, Dead, Delivery, Done, Next, Outcome, Retry, Skipped, Verdict, fault
from pipeline.flow.retry import Ladder
from pipeline.ports import Client, Clock, Codec, Outgoing, Publisher, Record, Target, Targets, Work
from pipeline.profiles import masked_headers, without_echo
from pipeline.workers.carriage import FIRST, carried, to_headers
from pipeline.workers.dead import Undertaker
from pipeline.workers.endpoints import Endpoint, Endpoints
from pipeline.workers.repeats import Copy, Repeats, Standing

ATTEMPTS = "attempts"


@dataclass(frozen=True, slots=True)
class Sender:
    """One record of `deliveries` in; one request out, its attempt, and the effect of the attempt's `next`.

    Order of effects, after a response:

    1. the attempt, with its `next`, is reported durable;
    2. the effect of `next` (a record of a tier, or a dead letter) is reported durable;
    3. only then is the record released: its offset may be passed.

    A record whose request was handed over meanwhile, or whose partition was lost, gets its attempt and no effect: that
    is the carrier's to cause, or the next owner's. A record that is not released is read again by the next owner.

    `random` gives a number in [0, 1); `on_attempt` is told of every attempt; `catch_up` reads what other processes may
    have written to that partition of `attempts` since it was taken over; `cancelled` says of a delivery's id and round
    whether somebody has stopped it, `replay_cancelled` of the id of a replay, or of an order over dead letters, and a
    round whether it went with that.
    `took_up` is told of every record before anything is done with it.
    """

    codec: Codec
    targets: Targets
    client: Client
    publisher: Publisher
    undertaker: Undertaker
    repeats: Repeats
    ladder: Ladder
    endpoints: Endpoints
    clock: Clock
    random: Callable[[], float]
    on_attempt: Callable[[Attempt], None]
    catch_up: Callable[[int], Awaitable[None]]
    cancelled: Callable[[str, str], bool] = lambda _delivery, _round: False
    replay_cancelled: Callable[[str, str], bool] = lambda _replay, _round: False
    took_up: Callable[[Record], None] = lambda _record: None

    def urgent(self, record: Record) -> bool:
        """Whether it goes before others: new, to an endpoint that takes it at once. The others wait for longer anyway.

        What has been on the ladder, or is a replay's, has waited for seconds or days.
        """
        return record.headers == FIRST and self.endpoints.takes_at_once(record.key)

    async def __call__(self, record: Record, work: Work) -> None:
        """Work on a record until it is released, or is another's to finish.

        An endpoint's failure is a value; ours is raised.
        """
        self.took_up(record)
        try:
            carriage, delivery = carried(record), self._delivery(record)
        except Undecodable as error:
            await self.publisher.publish(self.undertaker.bury(record, Reason(error.reason), str(error)))
            work.release()
            return
        copy = Copy((delivery.id, carriage.round), record, delivery, carriage, work)
        standing = Standing.BUSY if carriage.stands_for is not None else self.repeats.begin(copy)
        if standing is Standing.BUSY:
            standing = await self._turn(copy)
        if standing is Standing.REPEAT:
            work.release()
            return
        try:
            await (self._attempt(copy) if standing is Standing.FIRST else self._settle(copy))
        except BaseException:
            self.repeats.give_up(copy)
            raise

    async def _turn(self, copy: Copy) -> Standing:
        """Whoever gets a carrier looks first for the attempt that it stands for."""
        if copy.carriage.stands_for is not None and not self.repeats.knows(copy):
            await self.catch_up(copy.record.partition)
        return await self.repeats.turn(copy)

    async def _attempt(self, copy: Copy) -> None:
        try:
            target = None if self._stopped(copy) else self._active(copy) or await self._newer(copy)
        except Undecodable as error:
            await self._set_aside(copy, error)
            return
        if not copy.work.open:
            self.repeats.give_up(copy)
            return
        endpoint = None if target is None else self.endpoints.of(target.subscription)
        if target is None or endpoint is None or endpoint.disabled:
            attempt = _skipped(copy, self.clock())
        elif (slot_ms := await self._turn_of(copy, endpoint)) or not copy.work.open:
            await self._postpone(copy, endpoint, slot_ms)
            return
        elif self._stopped(copy):  # while it waited for its turn
            self.endpoints.give_back(endpoint)
            attempt = _skipped(copy, self.clock())
        else:
            attempt = await self._sent(copy, target, endpoint)
        copy.work.answered()
        value, record = self.codec.encode_attempt(attempt), copy.record
        await self.publisher.publish(Outgoing(ATTEMPTS, record.key, value, partition=record.partition))
        self.on_attempt(attempt)
        if copy.handed_over or copy.work.lost:
            self.repeats.owe(copy, attempt.next)
            return
        if not isinstance(attempt.next, Done):
            await self._carry_out(copy, attempt.next, attempt)
        self.repeats.finish(copy)
        copy.work.release()

    def _stopped(self, copy: Copy) -> bool:
        replay, order, round_ = copy.delivery.replay, copy.carriage.order, copy.round[1]
        return (
            self.cancelled(*copy.round)
            or (replay is not None and self.replay_cancelled(replay, round_))
            or (order is not None and self.replay_cancelled(order, round_))
        )

    async def _turn_of(self, copy: Copy, endpoint: Endpoint) -> float:
        """0 when the delivery may go now, perhaps after a wait in memory; else its slot on the ladder."""
        slot_ms = self.endpoints.enter(endpoint, copy.carriage.slot_ms)
        if slot_ms:
            copy.work.answered()  # in nobody's way while it waits
            slot_ms = await self.endpoints.wait(endpoint, slot_ms, copy.work)
        return slot_ms

    async def _postpone(self, copy: Copy, endpoint: Endpoint, slot_ms: float) -> None:
        """The endpoint can take no more now: the delivery waits on the ladder for its turn. No attempt is made."""
        if not slot_ms:
            self.endpoints.give_back(endpoint)
        if copy.work.open:
            hop = copy.carriage.hop
            wait_ms = self.endpoints.sleep_ms(endpoint, slot_ms, hop)
            carriage = replace(copy.carriage, hop=hop + 1, wait_ms=wait_ms, slot_ms=int(slot_ms))
            topic = self.ladder.next_tier(wait_ms).topic
            await self.publisher.publish(Outgoing(topic, copy.record.key, copy.record.value, to_headers(carriage)))
            copy.work.release()
        self.repeats.give_up(copy)

    async def _set_aside(self, copy: Copy, error: Undecodable) -> None:
        """The webhook's own record cannot be read: its deliveries are dead letters, and nobody else's."""
        letter = self.undertaker.bury(copy.record, Reason(error.reason), str(error), copy.delivery)
        await self.publisher.publish(letter)
        self.repeats.finish(copy)
        copy.work.release()

    def _delivery(self, record: Record) -> Delivery:
        delivery = self.codec.delivery(record.value)
        if wrong := fault(delivery):
            raise Undecodable(Reason.INVALID, wrong)
        return delivery

    async def _settle(self, copy: Copy) -> None:
        """The attempt was made by another copy, or by an owner that died: only its `next` is left to do."""
        if not copy.work.open:
            self.repeats.give_up(copy)
            return
        assert copy.then is not None, "the set against repeats says what is owed"  # noqa: S101
        await self._carry_out(copy, copy.then, None)
        self.repeats.finish(copy)
        copy.work.release()

    async def _newer(self, copy: Copy) -> Target | None:
        """The webhook is known to be gone, or not active, only when the view is as new as the router's was."""
        await self.targets.reached(copy.delivery.origin.subscriptions_offset)
        return self._active(copy)

    def _active(self, copy: Copy) -> Target | None:
        target = self.targets.find(copy.delivery.tenant, copy.delivery.webhook)
        return target if target is not None and target.subscription.active else None

    async def _sent(self, copy: Copy, target: Target, endpoint: Endpoint) -> Attempt:
        """Make the request; what its end means is the product's to say."""
        started_ms = self.clock()
        request = target.prepared.request(copy.delivery, started_ms // 1000, _of_replay(copy.delivery))
        copy.request, copy.since_s = request, time.monotonic()
        outcome = await self.client.send(request)
        copy.request = None
        verdict = target.profile.judge(outcome)
        self.endpoints.leave(endpoint, verdict, outcome.duration_ms, request.deadline_s)
        then = target.profile.next_step(
            verdict, outcome, copy.delivery.attempt, jitter=self.random(), now_ms=self.clock(), ladder=self.ladder
        )
        shown, said = masked_headers(request.headers), without_echo(outcome, request.headers)
        return _written_down(copy, started_ms, shown, said, verdict=verdict, then=then)

    async def _carry_out(self, copy: Copy, then: Next, attempt: Attempt | None) -> None:
        match then:
            case Done() | Skipped():
                return
            case Retry(wait_ms):
                await self.publisher.publish(self._postponed(copy, wait_ms))
            case Dead(reason):
                detail = _detail(copy, attempt)
                letter = self.undertaker.bury(copy.record, Reason(reason), detail, copy.delivery, attempt)
                await self.publisher.publish(letter)
            case _:
                assert_never(then)

    def _postponed(self, copy: Copy, wait_ms: int) -> Outgoing:
        """The next attempt's record, on the tier to wait in first."""
        carriage = replace(copy.carriage, hop=copy.carriage.hop + 1, wait_ms=wait_ms, stands_for=None)
        value = self.codec.encode_delivery(replace(copy.delivery, attempt=copy.delivery.attempt + 1))
        return Outgoing(self.ladder.next_tier(wait_ms).topic, copy.record.key, value, to_headers(carriage))


def _of_replay(delivery: Delivery) -> tuple[tuple[str, str], ...]:
    """The headers that tell a receiver of a replay: which one, and under which id the event came first."""
    named = (("webhook-replay-id", delivery.replay), ("webhook-first-id", delivery.first))
    return tuple((name, value) for name, value in named if value is not None)


_NOTHING_SENT = Outcome(None, None, (), b"", 0)


def _skipped(copy: Copy, now_ms: int) -> Attempt:
    return _written_down(copy, now_ms, (), _NOTHING_SENT, verdict=Verdict.SKIPPED, then=Skipped())


def _written_down(
    copy: Copy, started_ms: int, headers: tuple[tuple[str, str], ...], outcome: Outcome, *, verdict: Verdict, then: Next
) -> Attempt:
    delivery = copy.delivery
    return Attempt(
        delivery.id,
        copy.carriage.round,
        copy.carriage.hop,
        delivery.event,
        delivery.tenant,
        delivery.webhook,
        delivery.type,
        delivery.attempt,
        started_ms,
        outcome.duration_ms,
        verdict,
        outcome.status,
        headers,
        outcome.headers,
        outcome.body,
        then,
        Answers(copy.record.partition, copy.record.offset),
    )


def _detail(copy: Copy, attempt: Attempt | None) -> str:
    if attempt is None:
        return f"attempt {copy.delivery.attempt} was the last one: `attempts` has what it came to"
    answered = f"status {attempt.status_code}" if attempt.status_code else "no answer"
    return f"attempt {attempt.attempt} ended with verdict {attempt.verdict} ({answered})"
