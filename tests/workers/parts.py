"""What the tests of the workers are made of: real codec and profiles, and the ports in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pipeline.flow.deliver import Attempt, Carriage, Delivery, Origin, Outcome, OutgoingRequest
from pipeline.flow.health import HealthRule
from pipeline.flow.retry import DEFAULT, Ladder
from pipeline.flow.subscription import Auth, Subscription
from pipeline.kafka.codec import Codec
from pipeline.kafka.schemas import SUBJECTS
from pipeline.ports import Outgoing, Record, Target
from pipeline.profiles import PROFILES, Profile
from pipeline.workers.carriage import to_headers
from pipeline.workers.dead import Undertaker
from pipeline.workers.endpoints import Endpoints
from pipeline.workers.handover import HandOver
from pipeline.workers.repeats import Made, Repeats, Round
from pipeline.workers.sender import Sender

NOW_MS = 1_767_225_600_000
HEADS = {name: bytes((0, 0, 0, 0, number)) for number, name in enumerate(SUBJECTS.values(), 1)}
CODEC = Codec(cast("Any", None), HEADS)
"""Reads what it has written, without a registry."""
LADDER = Ladder.parse(DEFAULT)
UNDERTAKER = Undertaker(CODEC, lambda: NOW_MS)
DELIVERY = Delivery(
    "msg_1", "acme", "wh_1", "evt-1", "order.paid", None, NOW_MS, b'{"a":1}', 1, Origin("events", 2, 7, 11)
)
NO_CARRIAGE = Carriage()
HEALTH = HealthRule.parse("120h", 20)


def read(topic: str = "deliveries", value: bytes | None = b"", offset: int = 5, **more: Any) -> Record:
    """A record as a feed reads it, of partition 3."""
    return Record(topic, 3, offset, more.get("key", b"acme/wh_1"), value, more.get("headers", ()), NOW_MS)


def delivered(delivery: Delivery = DELIVERY, carriage: Carriage = NO_CARRIAGE, offset: int = 5) -> Record:
    """A record of `deliveries`."""
    return read(value=CODEC.encode_delivery(delivery), offset=offset, headers=to_headers(carriage))


def answer(status: int, *headers: tuple[str, str]) -> Outcome:
    return Outcome(None, status, headers, b"said", 12)


@dataclass
class Slow:
    """A publisher whose broker reports when the test says so."""

    written: list[Outgoing] = field(default_factory=list)
    reports: list[asyncio.Future[None]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    by_hand: bool = False

    def publish(self, record: Outgoing) -> Awaitable[object]:
        """Written at once, durable when reported."""
        self.log.append(f"write {record.topic}")
        self.written.append(record)
        report = asyncio.get_running_loop().create_future()
        self.reports.append(report)
        if not self.by_hand:
            report.set_result(None)
        return report

    def to(self, topic: str) -> list[Outgoing]:
        """What has been written to this topic."""
        return [record for record in self.written if record.topic == topic]

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts, decoded."""
        return [CODEC.attempt(record.value) for record in self.to("attempts")]


@dataclass
class Endpoint:
    """A client whose endpoint gives these answers in turn, the last one for ever."""

    outcomes: list[Outcome | Exception]
    log: list[str]
    requests: list[OutgoingRequest] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, request: OutgoingRequest) -> Outcome:
        """After the gate has been opened."""
        self.log.append("request")
        self.requests.append(request)
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class Known:
    """The webhooks, as a view has them; `arriving` come with the offset that is waited for."""

    log: list[str]
    there: dict[str, Target] = field(default_factory=dict)
    arriving: dict[str, Target] = field(default_factory=dict)

    def find(self, tenant: str, webhook: str) -> Target | None:
        """As far as the view has been read."""
        return self.there.get(f"{tenant}/{webhook}")

    async def reached(self, subscriptions_offset: int) -> None:
        """The view moves on."""
        self.log.append(f"reached {subscriptions_offset}")
        self.there |= self.arriving


def target(profile: Profile = PROFILES["monitorqa"], **more: Any) -> Target:
    """A webhook that is ready to be sent to."""
    subscription = Subscription("acme", "wh_1", "https://example.com/hook", ("*",), Auth("none"))
    return Target(replace(subscription, **more), profile, profile.prepare(subscription.url, "none", {}))


@dataclass
class Handle:
    """A record's work as the one who answers for its offset sees it."""

    log: list[str] = field(default_factory=list)
    open: bool = True
    lost: bool = False
    doubtful: bool = False
    released: bool = False

    def answered(self) -> None:
        """The request has ended."""
        self.log.append("answered")

    def goes_on(self) -> None:
        """It takes long."""
        self.log.append("goes on")

    def release(self) -> None:
        """The offset may be passed."""
        self.released = True
        self.log.append("released")

    def lose(self) -> None:
        """The partition is another's."""
        self.open, self.lost = False, True


@dataclass
class Elsewhere:
    """What other processes have written to `attempts`, which is learnt when somebody looks."""

    log: list[str]
    repeats: Repeats
    attempts: list[tuple[Round, Made]] = field(default_factory=list)

    async def __call__(self, partition: int) -> None:
        """Look for it."""
        self.log.append(f"catch up {partition}")
        for round_, made in self.attempts:
            self.repeats.learn(round_, made)


@dataclass
class Sending:
    """A sender and all of its ports. `elsewhere` is what other processes have written to `attempts` meanwhile."""

    sender: Sender
    repeats: Repeats
    hand_over: HandOver
    publisher: Slow
    endpoint: Endpoint
    targets: Known
    attempts: list[Attempt]
    log: list[str]
    elsewhere: list[tuple[Round, Made]]

    def __call__(self, record: Record, work: Handle | None = None) -> asyncio.Task[None]:
        """Work on a record, as a stage does."""
        return asyncio.ensure_future(cast("Any", self.sender(record, work or Handle())))


def sending(
    *outcomes: Outcome | Exception, profile: Profile = PROFILES["standard"], ladder: Ladder = LADDER
) -> Sending:
    """A sender for one webhook, whose endpoint answers this."""
    log: list[str] = []
    secret = {"secret": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    scheme = profile.schemes[0].name
    prepared = profile.prepare("https://example.com/hook", scheme, {} if scheme == "none" else secret)
    held = Subscription("acme", "wh_1", "https://example.com/hook", ("*",), Auth(scheme))
    targets = Known(log, {"acme/wh_1": Target(held, profile, prepared)})
    publisher, endpoint, attempts = Slow(log=log), Endpoint(list(outcomes), log), list[Attempt]()
    endpoint.gate.set()
    clock: Callable[[], int] = lambda: NOW_MS  # noqa: E731 - a clock that stands
    repeats, told = Repeats(), attempts.append
    hand_over = HandOver(publisher, repeats, ladder, 0)
    endpoints = roomy(Endpoints(CODEC, publisher, HEALTH, ladder, clock=clock, stored=lambda _: None), held)
    ports = (CODEC, targets, endpoint, publisher, UNDERTAKER, repeats, ladder, endpoints, clock, lambda: 0.0, told)
    elsewhere = Elsewhere(log, repeats)
    sender = Sender(*ports, elsewhere)
    return Sending(sender, repeats, hand_over, publisher, endpoint, targets, attempts, log, elsewhere.attempts)


def roomy(endpoints: Endpoints, webhook: Subscription) -> Endpoints:
    """As they are once the webhook's endpoint has shown that it takes any number of requests at a time."""
    lane = endpoints.of(webhook).lane
    lane.cap = lane._allowed = 1_000
    return endpoints


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
