"""The sender: makes one attempt of a delivery and writes down what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import (
    Answers,
    Attempt,
    Carriage,
    Dead,
    Delivery,
    Done,
    Next,
    Outcome,
    OutgoingRequest,
    Retry,
    Skipped,
    Verdict,
)
from pipeline.flow.retry import Ladder
from pipeline.ports import Client, Clock, Codec, Outgoing, Publisher, Record, Target, Targets
from pipeline.profiles import masked_headers
from pipeline.workers.carriage import of_headers, to_headers
from pipeline.workers.dead import Undertaker
from pipeline.workers.repeats import Repeats

ATTEMPTS = "attempts"
_NO_OUTCOME = Outcome(None, None, (), b"", 0)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sender:
    """One record of `deliveries` in; one request out, its attempt, and the effect of the attempt's `next`.

    Order of effects, after a response:

    1. the attempt, with its `next`, is reported durable;
    2. the effect of `next` (a record of a tier, or a dead letter) is reported durable;
    3. only then does the call return, and the record's offset may be passed.

    `random` gives a number in [0, 1); `on_attempt` is told of every attempt.
    """

    codec: Codec
    targets: Targets
    client: Client
    publisher: Publisher
    undertaker: Undertaker
    repeats: Repeats
    ladder: Ladder
    clock: Clock
    random: Callable[[], float]
    on_attempt: Callable[[Attempt, Delivery], None]

    async def __call__(self, record: Record) -> None:
        """Return when all that the record caused is durable. An endpoint's failure is a value; what is raised is our fault."""
        try:
            delivery = self.codec.delivery(record.value)
            carriage = of_headers(record.headers)
        except Undecodable as error:
            await self.publisher.publish(self.undertaker.bury(record, Reason(error.reason), str(error)))
            return
        key = (delivery.id, carriage.round, carriage.hop)
        if not await self.repeats.first(key):
            return
        if self.repeats.attempted(delivery.id, carriage.round, delivery.attempt):
            self.repeats.finish(key)
            return
        try:
            await self._attempt(record, delivery, carriage)
        except BaseException:
            self.repeats.give_up(key)
            raise
        self.repeats.finish(key, delivery.attempt)

    async def _attempt(self, record: Record, delivery: Delivery, carriage: Carriage) -> None:
        target = await self._target(delivery)
        started_ms = self.clock()
        if target is None:
            attempt = _written_down(record, delivery, carriage, started_ms, (), _NO_OUTCOME, Verdict.SKIPPED, Skipped())
        else:
            request = target.prepared.request(delivery, started_ms // 1000)
            outcome = await self.client.send(request)
            attempt = self._judged(record, delivery, carriage, started_ms, target, request, outcome)
        out = Outgoing(ATTEMPTS, record.key, self.codec.encode_attempt(attempt), partition=record.partition)
        await self.publisher.publish(out)
        self.on_attempt(attempt, delivery)
        await self._carry_out(record, delivery, carriage, attempt)

    async def _target(self, delivery: Delivery) -> Target | None:
        """The webhook, if it is there and active; known to be gone only when the view is as new as the router's was."""
        target = self.targets.find(delivery.tenant, delivery.webhook)
        if target is None:
            await self.targets.reached(delivery.origin.subscriptions_offset)
            target = self.targets.find(delivery.tenant, delivery.webhook)
        return target if target is not None and target.subscription.active else None

    def _judged(
        self,
        record: Record,
        delivery: Delivery,
        carriage: Carriage,
        started_ms: int,
        target: Target,
        request: OutgoingRequest,
        outcome: Outcome,
    ) -> Attempt:
        verdict = target.profile.judge(outcome)
        then = target.profile.next_step(
            verdict, outcome, delivery.attempt, jitter=self.random(), now_ms=self.clock(), ladder=self.ladder
        )
        headers = masked_headers(request.headers)
        return _written_down(record, delivery, carriage, started_ms, headers, outcome, verdict, then)

    async def _carry_out(self, record: Record, delivery: Delivery, carriage: Carriage, attempt: Attempt) -> None:
        match attempt.next:
            case Done() | Skipped():
                return
            case Retry(wait_ms):
                await self.publisher.publish(self._postponed(record, delivery, carriage, wait_ms))
            case Dead(reason):
                detail = _detail(attempt)
                await self.publisher.publish(self.undertaker.bury(record, Reason(reason), detail, delivery, attempt))
            case _:
                assert_never(attempt.next)

    def _postponed(self, record: Record, delivery: Delivery, carriage: Carriage, wait_ms: int) -> Outgoing:
        """The next attempt's record, on the tier to wait in first."""
        tier = self.ladder.next_tier(wait_ms)
        value = self.codec.encode_delivery(replace(delivery, attempt=delivery.attempt + 1))
        headers = to_headers(Carriage(carriage.round, carriage.hop + 1, wait_ms, carriage.slot_ms))
        return Outgoing(tier.topic, record.key, value, headers)


def _written_down(
    record: Record,
    delivery: Delivery,
    carriage: Carriage,
    started_ms: int,
    request_headers: tuple[tuple[str, str], ...],
    outcome: Outcome,
    verdict: Verdict,
    then: Next,
) -> Attempt:
    return Attempt(
        delivery.id,
        carriage.round,
        carriage.hop,
        delivery.event,
        delivery.tenant,
        delivery.webhook,
        delivery.type,
        delivery.attempt,
        started_ms,
        outcome.duration_ms,
        verdict,
        outcome.status,
        request_headers,
        outcome.headers,
        outcome.body,
        then,
        Answers(record.partition, record.offset),
    )


def _detail(attempt: Attempt) -> str:
    answered = f"status {attempt.status_code}" if attempt.status_code else "no answer"
    return f"attempt {attempt.attempt} ended with verdict {attempt.verdict} ({answered})"
