"""Customers whose events are replayed, and what their endpoints have got: every count is held against that."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from confluent_kafka import Producer

from pipeline.flow.event import Event
from pipeline.http.receiver import Expectation, Received, Script
from pipeline.kafka import topics
from pipeline.kafka.lag import ends_of, left
from pipeline.profiles import PROFILES
from tests.live_cluster import LiveCluster
from tests.prepared import codec_of, prepared
from tests.providers.system import System, eventually
from tests.providers.ways import Json, Rest

STANDARD = PROFILES["standard"]
ENDED = ("delivered", "failed", "cancelled")
OVER = ("done", "cancelled", "failed")


@dataclass(eq=False)
class Endpoint:
    """A path of the receiver, and the rule that its requests must keep."""

    system: System
    path: str
    expected: Expectation

    @classmethod
    def at(cls, system: System) -> Endpoint:
        """A new one, of which no secret is known yet."""
        return cls(system, f"/{secrets.token_hex(8)}", Expectation(STANDARD, "standard_webhooks"))

    @property
    def url(self) -> str:
        """Its URL."""
        return self.system.plain.url(self.path)

    def expect(self, secret: str) -> None:
        """Requests are signed with this."""
        self.expected = replace(self.expected, secrets={"secret": secret})
        self.answer(Script())

    def answer(self, script: Script) -> None:
        """What it answers from now on; it forgets what has come."""
        self.system.plain.expect(self.path, replace(self.expected, answers=script))

    def got(self, replay: str | None = None) -> list[Received]:
        """The accepted requests of that replay, or of none; none may have been refused."""
        assert self.system.plain.refused(self.path) == {}
        every = self.system.plain.requests(self.path)
        return [one for one in every if one.status == 200 and one.headers.get("webhook-replay-id") == replay]

    def came(self, replay: str | None = None) -> Counter[str]:
        """How often each event has come."""
        return Counter(event_of(one) for one in self.got(replay))

    def until(self, count: int, replay: str | None = None) -> None:
        """Wait for so many accepted requests."""
        self.system.until(self.system.plain, lambda: len(self.got(replay)) >= count)

    def tried(self) -> None:
        """Wait for any request."""
        self.system.until(self.system.plain, lambda: bool(self.system.plain.requests(self.path)))


@dataclass(eq=False)
class Hook:
    """A webhook and where it leads to."""

    customer: Customer
    id: str
    endpoint: Endpoint

    def wants(self, *types: str) -> None:
        """From now on these event types."""
        self.customer.admin.update(self.customer.tenant, self.id, events=list(types))

    def act(self, what: str) -> None:
        """Activate or deactivate it."""
        self.customer.admin.act(self.customer.tenant, self.id, what)

    def logged(self, event: str, status: str) -> None:
        """Wait until the log has a delivery of the event that stands so."""
        eventually(lambda: (event, status) in self._statuses(), lambda: f"{event}: {self._statuses()}")

    def _statuses(self) -> list[tuple[str, str]]:
        rows = self.customer.admin.deliveries(self.customer.tenant, self.id)
        return [(one["event"], one["status"]) for one in rows]


@dataclass(eq=False)
class Customer:
    """A tenant, its administrator, and the types of the events that it has sent."""

    system: System
    tenant: str
    admin: Rest
    types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, system: System, profile: str = "standard") -> Customer:
        """A new one."""
        platform, tenant = Rest(system.url, system.key), f"replayed-{secrets.token_hex(6)}"
        platform.make_tenant(tenant, profile)
        return cls(system, tenant, platform.with_key(platform.make_key(tenant, "admin")))

    def hook(self, *types: str, **more: Any) -> Hook:
        """A webhook for these event types, to an endpoint of its own."""
        endpoint = Endpoint.at(self.system)
        made = self.admin.create(self.tenant, url=endpoint.url, events=list(types), **more)
        endpoint.expect(made["auth"]["secret"])
        return Hook(self, made["id"], endpoint)

    def send(self, *types: str) -> tuple[str, ...]:
        """An event of each type, one after the other; their ids."""
        made = [{"id": f"e{len(self.types) + n}", "type": kind, "data": {}} for n, kind in enumerate(types)]
        events = [{**one, "data": {"event": one["id"]}} for one in made]
        self.admin.with_key(self.system.key)._ask("POST", f"/v1/tenants/{self.tenant}/events", {"events": events})
        self.types |= {str(one["id"]): str(one["type"]) for one in made}
        return tuple(str(one["id"]) for one in made)

    def send_bare(self, cluster: LiveCluster, kind: str) -> None:
        """One more event, as a service of another make writes it: no header tells whose it is."""
        ident = f"e{len(self.types)}"
        bare(cluster, Event(ident, self.tenant, kind, _now_ms(), f'{{"event": "{ident}"}}'))
        self.types[ident] = kind

    def plan(self, **asked: Any) -> Json:
        """What a replay of the customer's would send."""
        return plan(self.admin, tenant=self.tenant, **asked)

    def replay(self, **asked: Any) -> Replay:
        """Order one."""
        return Replay.ordered(self.admin, tenant=self.tenant, **asked)


@dataclass
class Replay:
    """A replay as its owner sees it; `answer` is what the order was answered."""

    owner: Rest
    id: str
    answer: Json

    @classmethod
    def ordered(cls, owner: Rest, **asked: Any) -> Replay:
        """Order one; `since` and `until` are its `from` and `to`."""
        answer = owner._ask("POST", "/v1/replays", _named(asked))
        return cls(owner, answer["id"], answer)

    def show(self) -> Json:
        """As it stands."""
        return self.owner._ask("GET", f"/v1/replays/{self.id}")

    def order(self, what: str) -> Json:
        """Pause, resume or cancel it."""
        return self.owner._ask("POST", f"/v1/replays/{self.id}/{what}")

    def until(self, state: str) -> Json:
        """It, once it stands so."""
        eventually(lambda: self.show()["state"] == state, lambda: f"not {state}: {self.show()}")
        return self.show()

    def settled(self, state: str = "done") -> Json:
        """It, once it stands so and every delivery that it has written has ended."""
        self.until(state)
        eventually(lambda: _ended(self.show()), lambda: f"not settled: {self.show()}")
        return self.show()


def bare(cluster: LiveCluster, event: Event) -> None:
    """The event on Kafka, without any header."""

    async def encoded() -> bytes:
        async with codec_of(prepared(cluster)) as codec:
            return codec.encode_event(event)

    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    producer.produce(topics.EVENTS, asyncio.run(encoded()))
    assert producer.flush(30) == 0
    producer.close()


def plan(owner: Rest, **asked: Any) -> Json:
    """A dry run."""
    return owner._ask("POST", "/v1/replays", _named({**asked, "dry_run": True}))


def boundary() -> str:
    """A moment: what has been sent lies before it, what will be sent does not."""
    at_ms = _now_ms() + 1
    while _now_ms() < at_ms:
        pass
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def recorded(system: System) -> None:
    """Wait until the delivery log has all that there is."""
    system.routed()
    for name in (topics.EVENTS, topics.DELIVERIES, topics.ATTEMPTS):
        there = ends(system, name)
        eventually(partial(_read, system, {(name, number): end for number, end in there.items()}))


def ends(system: System, topic: str) -> dict[int, int]:
    """Where the partitions of a topic end."""
    count = topics.existing(system.kafka)[topic]
    return {number: end for (_, number), end in ends_of(system.kafka, [(topic, n) for n in range(count)]).items()}


def event_of(got: Received) -> str:
    """The event's id, which its data tells."""
    return str(orjson.loads(got.body)["data"]["event"])


def once(events: Sequence[str]) -> Counter[str]:
    """Each of them exactly once."""
    return Counter(dict.fromkeys(events, 1))


def _ended(shown: Mapping[str, Any]) -> bool:
    statuses = shown["statuses"] or {}
    return bool(sum(statuses.get(name, 0) for name in ENDED) == shown["progress"]["deliveries"])


def _named(asked: Json) -> Json:
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in asked.items()}


def _read(system: System, ends: dict[tuple[str, int], int]) -> bool:
    return not left(system.kafka, "pipeline-recorder", ends)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
