"""The sender: makes one attempt of a delivery and writes down what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

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


def _nothing() -> None:
    """For a caller that need not know."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One writing of a delivery, as it was read."""

    record: Record
    delivery: Delivery
    carriage: Carriage

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it this writing: the same again is a repeat."""
        return self.delivery.id, self.carriage.round, self.carriage.hop


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
    on_attempt: Callable[[Attempt], None]

    async def __call__(self, record: Record, answered: Callable[[], None] = _nothing) -> None:
        """Return when all that the record caused is durable. An endpoint's failure is a value; ours is raised.

        `answered` is called when the request has ended: what follows waits for the broker alone.
        """
        try:
            copy = _Copy(record, self.codec.delivery(record.value), of_headers(record.headers))
        except Undecodable as error:
            await self.publisher.publish(self.undertaker.bury(record, Reason(error.reason), str(error)))
            return
        if not await self.repeats.first(copy.key):
            return
        try:
            made = await self._attempt_once(copy, answered)
        except BaseException:
            self.repeats.give_up(copy.key)
            raise
        self.repeats.finish(copy.key, made)

    async def _attempt_once(self, copy: _Copy, answered: Callable[[], None]) -> int:
        """The number of the attempt that was made; 0 where this round has made it before."""
        delivery = copy.delivery
        if self.repeats.attempted(delivery.id, copy.carriage.round, delivery.attempt):
            return 0
        target = await self._target(delivery)
        attempt = _skipped(copy, self.clock()) if target is None else await self._sent(copy, target)
        answered()
        value = self.codec.encode_attempt(attempt)
        await self.publisher.publish(Outgoing(ATTEMPTS, copy.record.key, value, partition=copy.record.partition))
        self.on_attempt(attempt)
        await self._carry_out(copy, attempt)
        return delivery.attempt

    async def _target(self, delivery: Delivery) -> Target | None:
        """The webhook, if it is there and active; known to be gone only when the view is as new as the router's was."""
        if (target := self._active(delivery)) is None:
            await self.targets.reached(delivery.origin.subscriptions_offset)
            target = self._active(delivery)
        return target

    def _active(self, delivery: Delivery) -> Target | None:
        target = self.targets.find(delivery.tenant, delivery.webhook)
        return target if target is not None and target.subscription.active else None

    async def _sent(self, copy: _Copy, target: Target) -> Attempt:
        """Make the request; what its end means is the product's to say."""
        started_ms = self.clock()
        request = target.prepared.request(copy.delivery, started_ms // 1000)
        outcome = await self.client.send(request)
        verdict = target.profile.judge(outcome)
        then = target.profile.next_step(
            verdict, outcome, copy.delivery.attempt, jitter=self.random(), now_ms=self.clock(), ladder=self.ladder
        )
        said = _Said(masked_headers(request.headers), outcome, verdict, then)
        return _written_down(copy, started_ms, said)

    async def _carry_out(self, copy: _Copy, attempt: Attempt) -> None:
        match attempt.next:
            case Done() | Skipped():
                return
            case Retry(wait_ms):
                await self.publisher.publish(self._postponed(copy, wait_ms))
            case Dead(reason):
                letter = self.undertaker.bury(copy.record, Reason(reason), _detail(attempt), copy.delivery, attempt)
                await self.publisher.publish(letter)
            case _:
                assert_never(attempt.next)

    def _postponed(self, copy: _Copy, wait_ms: int) -> Outgoing:
        """The next attempt's record, on the tier to wait in first."""
        carriage = replace(copy.carriage, hop=copy.carriage.hop + 1, wait_ms=wait_ms)
        value = self.codec.encode_delivery(replace(copy.delivery, attempt=copy.delivery.attempt + 1))
        return Outgoing(self.ladder.next_tier(wait_ms).topic, copy.record.key, value, to_headers(carriage))


@dataclass(frozen=True, slots=True)
class _Said:
    """A request's headers as they may be kept, how it ended, and what follows."""

    headers: tuple[tuple[str, str], ...]
    outcome: Outcome
    verdict: Verdict
    next: Next


_NOTHING_SENT = _Said((), Outcome(None, None, (), b"", 0), Verdict.SKIPPED, Skipped())


def _skipped(copy: _Copy, now_ms: int) -> Attempt:
    return _written_down(copy, now_ms, _NOTHING_SENT)


def _written_down(copy: _Copy, started_ms: int, said: _Said) -> Attempt:
    delivery, outcome = copy.delivery, said.outcome
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
        said.verdict,
        outcome.status,
        said.headers,
        outcome.headers,
        outcome.body,
        said.next,
        Answers(copy.record.partition, copy.record.offset),
    )


def _detail(attempt: Attempt) -> str:
    answered = f"status {attempt.status_code}" if attempt.status_code else "no answer"
    return f"attempt {attempt.attempt} ended with verdict {attempt.verdict} ({answered})"
