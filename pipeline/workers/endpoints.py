"""The sender's endpoints: each has a lane of its own, what waits for its turn in memory, and what is known of it.

What is known goes to `endpoint-state`, at most every five seconds for each endpoint, so that whoever gets the
partition next goes on there; a healthy endpoint causes no record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import NoReturn

import structlog

from pipeline.flow.deliver import Verdict
from pipeline.flow.health import OPERATIONS, Change, EndpointState, HealthRule, operational_event
from pipeline.flow.isolation import IN_FLIGHT, Lane
from pipeline.flow.retry import Ladder
from pipeline.flow.subscription import Subscription
from pipeline.flow.trials import WebhookTest, showing
from pipeline.ports import Codec, Outgoing, Publisher, Work

ENDPOINT_STATE, EVENTS = "endpoint-state", "events"
MOST_HELD = 5_000
"""Deliveries that wait in memory, over all endpoints; what comes beyond waits on the ladder."""
MOST_IN_FLIGHT = 2_000
"""Requests under way, over all endpoints: so many only if most hang. Beyond, only endpoints that are well get more."""
KNOWN = 20_000
"""Endpoints that are remembered. Of the hundred that were used longest ago an idle one is forgotten."""
_OLDEST = 100
_LOOK_S, _AT_A_LOOK = 0.05, 20
"""How often is looked after what waits, and how much of it goes to the ladder then: so many, or that part of it all if
that is more. When many endpoints fail in one moment, what waits for them would hold up those that are well."""
_SLOW_MS = 1_000.0
"""Turns that an endpoint gives together are spread if its requests last longer, over the time that one lasts: else they
would be answered together, and with every wave more, and hold up those that are well."""
_WRITE_MS = 5_000.0
_WEIGHT = 0.3
_STOOD_STILL_MS = 1_000
_SAYS_NOTHING = frozenset({Verdict.SKIPPED, Verdict.PROXY})
"""Verdicts that are not the endpoint's doing."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A delivery that waits in memory. `turn` is 0 when it goes, else the slot that it waits for on the ladder."""

    turn: asyncio.Future[float]
    work: Work


@dataclass(slots=True, eq=False)
class Endpoint:
    """What is known of one webhook's endpoint."""

    webhook: Subscription
    lane: Lane[Waiting]
    state: EndpointState
    written: EndpointState | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def disabled(self) -> bool:
        """Whether it was switched off for its failures, or because it said that it is gone."""
        return self.state.disabled

    def follow(self, webhook: Subscription) -> None:
        """The webhook's record is another one now."""
        if webhook.generation != self.webhook.generation:
            self.lane.renew()
            self.state = EndpointState(webhook.tenant, webhook.webhook, webhook.generation)
        self.lane.cap, self.lane.rate = webhook.max_in_flight or IN_FLIGHT, webhook.rate
        self.webhook = webhook

    def now(self, now: float) -> EndpointState:
        """What another process should know."""
        lane, until = self.lane, self.lane.breaker.until_ms
        reserved = lane.reserved_until_ms > lane.soon(now)
        return replace(
            self.state,
            breaker_until_ms=int(until) or None,
            reserved_until_ms=int(lane.reserved_until_ms) if reserved else None,
            capacity=round(lane.capacity(now) * 1000, 6) if reserved or until else None,
            time_ms=int(now),
        )


class Endpoints:
    """All endpoints that this process sends to. Its calls take no time; only `wait` waits.

    `clock` is the broker's time in milliseconds. `stored` says what the view of `endpoint-state` has of a webhook,
    `tested` the latest test of the configuration of `tenant/webhook`.
    """

    def __init__(
        self,
        codec: Codec,
        publisher: Publisher,
        rule: HealthRule,
        ladder: Ladder,
        *,
        clock: Callable[[], float],
        stored: Callable[[Subscription], EndpointState | None],
        tested: Callable[[str], WebhookTest | None] = lambda _: None,
    ) -> None:
        self._codec, self._publisher, self._rule, self._ladder = codec, publisher, rule, ladder
        self._clock, self._stored, self._tested = clock, stored, tested
        self._known: OrderedDict[bytes, Endpoint] = OrderedDict()
        self._holding: dict[Endpoint, None] = {}
        self._touched: dict[Endpoint, None] = {}
        self._spread: set[Waiting] = set()
        self._held = self._in_flight = 0
        self._lag_ms = 0.0

    def of(self, webhook: Subscription) -> Endpoint:
        """The endpoint of a webhook."""
        key = webhook.path.encode()
        endpoint = self._known.get(key)
        if endpoint is None:
            endpoint = self._known[key] = self._new(webhook)
            if len(self._known) > KNOWN:
                self._forget()
        elif endpoint.webhook is not webhook:
            endpoint.follow(webhook)
        self._known.move_to_end(key)
        return endpoint

    def takes_at_once(self, key: bytes | None) -> bool:
        """Whether the endpoint of a record's key is well, and nothing waits for it."""
        endpoint = self._known.get(key or b"")
        return endpoint is not None and endpoint.lane.well and not endpoint.lane.held

    def enter(self, endpoint: Endpoint, slot_ms: float) -> float:
        """0 when a delivery goes now, until `leave` or `give_back`; else the slot that it is to `wait` for."""
        now = self._clock()
        if not self._room(endpoint.lane):
            slot = endpoint.lane.reserve(now, far=True)
        elif not (slot := endpoint.lane.enter(now, slot_ms)):
            self._in_flight += 1
            return 0.0
        self._touched[endpoint] = None
        return slot

    async def wait(self, endpoint: Endpoint, slot_ms: float, work: Work) -> float:
        """Wait in memory for a slot that comes soon: 0 when the delivery goes now, else its slot on the ladder."""
        now = self._clock()
        if slot_ms > endpoint.lane.soon(now):
            return slot_ms
        if self._held >= MOST_HELD:
            return endpoint.lane.reserve(now, far=True)
        waiting = Waiting(asyncio.get_running_loop().create_future(), work)
        endpoint.lane.hold(slot_ms, waiting)
        self._held += 1
        self._holding[endpoint] = None
        self._pump(endpoint, now)
        return await waiting.turn

    def leave(self, endpoint: Endpoint, verdict: Verdict, duration_ms: float, deadline_s: float) -> None:
        """A request has ended, after this time. One that took longer than it may tells that *we* stood still."""
        self._in_flight -= 1
        if verdict in _SAYS_NOTHING or duration_ms > deadline_s * 1000 + _STOOD_STILL_MS:
            endpoint.lane.give_back()
            return
        now, failed = self._clock(), verdict is not Verdict.DELIVERED
        endpoint.lane.leave(now, now - duration_ms, max(duration_ms - self._lag_ms, 0.0), failed=failed)
        before = endpoint.state
        endpoint.state, change = self._rule.after(before, verdict, int(now))
        if not failed:
            self._note_success(endpoint)
        if endpoint.state is not before:
            self._touched[endpoint] = None
            if change is not None:
                self._tell(endpoint, change, before if change is Change.RECOVERED else endpoint.state, now)
        if endpoint.lane.held:
            self._pump(endpoint, now, duration_ms)

    def give_back(self, endpoint: Endpoint) -> None:
        """A delivery that was to go has not gone."""
        self._in_flight -= 1
        endpoint.lane.give_back()

    def sleep_ms(self, endpoint: Endpoint, slot_ms: float, hop: int) -> int:
        """How long a delivery that was written `hop` times is to wait on the ladder for a slot."""
        return endpoint.lane.sleep_ms(self._clock(), slot_ms, hop, self._ladder)

    def refresh(self) -> None:
        """Forget what is idle: a partition came, of whose endpoints others may have written since."""
        now = self._clock()
        for key in [key for key, one in self._known.items() if one.lane.idle(now) and one not in self._touched]:
            del self._known[key]

    async def run(self) -> NoReturn:
        """Look after what waits, and write down what is known, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(_LOOK_S)
            # What a request waits for this process itself is not the endpoint's time: it waits to be written and read.
            late_ms = 2 * max(loop.time() - begun - _LOOK_S, 0.0) * 1000
            self._lag_ms += (late_ms - self._lag_ms) * _WEIGHT
            self.look()

    def look(self) -> None:
        """Let go what cannot have its turn here, give turns, write down what is known."""
        now, most = self._clock(), max(_AT_A_LOOK, self._held // _AT_A_LOOK)
        for waiting in [one for one in self._spread if not one.work.open]:  # it is another's to send
            self._give(waiting)
        for endpoint in list(self._holding):
            lane = endpoint.lane
            closed = [held for held in lane.held if not held.item.work.open]
            if closed:
                lane.held = [held for held in lane.held if held.item.work.open]
                self._resolve([held.item for held in closed], [now for _ in closed])
            over = lane.overflow(now, most)
            most -= len(over)
            self._resolve(over, [lane.reserve(now, far=True) for _ in over])
            self._pump(endpoint, now)
        for endpoint in [one for one in self._touched if one.written is None or one.written.time_ms + _WRITE_MS <= now]:
            del self._touched[endpoint]
            self._write(endpoint, now)

    def _note_success(self, endpoint: Endpoint) -> None:
        """A failed test's error shows until a delivery succeeds: who shows it must be told, of a healthy one too."""
        test = showing(self._tested(endpoint.webhook.path), endpoint.webhook, endpoint.state)
        if test is not None:
            endpoint.state = replace(endpoint.state, tested_ms=test.time_ms)

    def _resolve(self, waiting: list[Waiting], turns: list[float]) -> None:
        for one, turn in zip(waiting, turns, strict=True):
            self._held -= 1
            one.turn.set_result(turn)

    def _pump(self, endpoint: Endpoint, now: float, newest_ms: float = inf) -> None:
        """Give turns to those whose they are, and see to it that the next one gets its own in time.

        `newest_ms` is what the request took that has just ended: after an outage its mean says too much.
        """
        lane, gone = endpoint.lane, []
        while self._room(lane) and (waiting := lane.next(now)) is not None:
            self._held -= 1
            self._in_flight += 1
            gone.append(waiting)
        self._let_go(gone, min(lane.mean_ms, newest_ms))
        if not lane.held:
            self._holding.pop(endpoint, None)
        elif (wake := lane.wake_ms(now)) is not None:
            if endpoint.timer is not None:
                endpoint.timer.cancel()
            delay_s = max(wake - now, 1.0) / 1000
            endpoint.timer = asyncio.get_running_loop().call_later(delay_s, self._woken, endpoint)

    def _let_go(self, gone: Sequence[Waiting], lasts_ms: float) -> None:
        """Give these turns of an endpoint: the first at once, and the others with it unless its requests last long."""
        for number, waiting in enumerate(gone):
            if number and lasts_ms > _SLOW_MS:
                self._spread.add(waiting)
                asyncio.get_running_loop().call_later(lasts_ms / 1000 * number / len(gone), self._give, waiting)
            else:
                self._give(waiting)

    def _give(self, waiting: Waiting) -> None:
        self._spread.discard(waiting)
        if not waiting.turn.done():  # its task may have been cancelled
            waiting.turn.set_result(0.0)

    def _room(self, lane: Lane[Waiting]) -> bool:
        return self._in_flight < MOST_IN_FLIGHT or lane.well

    def _woken(self, endpoint: Endpoint) -> None:
        endpoint.timer = None
        self._pump(endpoint, self._clock())

    def _tell(self, endpoint: Endpoint, change: Change, state: EndpointState, now: float) -> None:
        """A change that people should know of: it is written down at once, and is an event of its own.

        Of a recovery the state before tells what it was from.
        """
        _log.warning(change.value, webhook=endpoint.webhook.path, reason=state.reason)
        self._write(endpoint, now)
        if endpoint.webhook.tenant != OPERATIONS:
            value = self._codec.encode_event(operational_event(state, change, int(now)))
            self._publisher.publish(Outgoing(EVENTS, OPERATIONS.encode(), value))

    def _write(self, endpoint: Endpoint, now: float) -> None:
        known, written = endpoint.now(now), endpoint.written
        if written is not None and replace(written, time_ms=known.time_ms) == known:
            return
        clean = EndpointState(known.tenant, known.webhook, known.generation)
        if written is None and replace(known, time_ms=0) == clean:
            return
        endpoint.written = known
        value = self._codec.encode_endpoint_state(known)
        self._publisher.publish(Outgoing(ENDPOINT_STATE, endpoint.webhook.path.encode(), value))

    def _new(self, webhook: Subscription) -> Endpoint:
        lane: Lane[Waiting] = Lane(self._ladder.tiers[0].wait_ms, webhook.max_in_flight or IN_FLIGHT, webhook.rate)
        stored = self._stored(webhook)
        if stored is None or stored.generation != webhook.generation:
            return Endpoint(webhook, lane, EndpointState(webhook.tenant, webhook.webhook, webhook.generation))
        if stored.capacity:
            lane.resume(stored.reserved_until_ms or 0.0, stored.capacity, stored.breaker_until_ms or 0.0)
        return Endpoint(webhook, lane, stored, stored)

    def _forget(self) -> None:
        now = self._clock()
        for key in list(islice(self._known, _OLDEST)):
            if self._known[key].lane.idle(now) and self._known[key] not in self._touched:
                del self._known[key]
                return
