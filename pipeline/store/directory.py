"""What the API looks up: tenants and webhooks by their ids, and both in the order of their making, newest first.

And how the webhooks' endpoints fare, as far as the senders have said.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import structlog

from pipeline.errors import Undecodable, Unreachable
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.flow.trials import WebhookTest
from pipeline.kafka.codec import Codec
from pipeline.kafka.states import EndpointStates
from pipeline.kafka.topics import ENDPOINT_STATE, KEYS, REPLAYS, SUBSCRIPTIONS, TENANTS, WEBHOOK_TESTS
from pipeline.kafka.trials import WebhookTests
from pipeline.store.pages import Page, Place
from pipeline.store.targets import View, not_ours

_log = structlog.get_logger()
_ORDERS = 1_000
"""For how many tenants the order of their webhooks is kept."""


class Made(Protocol):
    """A record that says when it was made."""

    @property
    def created_ms(self) -> int:
        """Milliseconds since the epoch."""


T = TypeVar("T", bound=Made)


@dataclass(slots=True)
class Order:
    """The ids of a list, newest first, kept so as they come and go."""

    places: list[Place] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)

    def put(self, key: str, created_ms: int) -> None:
        """The record of that id is there, made then."""
        if self.made.get(key) != created_ms:
            self.drop(key)
            self.made[key] = created_ms
            insort(self.places, (-created_ms, key))

    def drop(self, key: str) -> None:
        """It is there no more."""
        if (created_ms := self.made.pop(key, None)) is not None:
            del self.places[bisect_left(self.places, (-created_ms, key))]

    def after(self, place: Place | None, limit: int) -> list[Place]:
        """What follows a place (None: the first ones)."""
        start = 0 if place is None else bisect_left(self.places, (place[0], place[1] + "\0"))
        return self.places[start : start + limit]


class Directory:
    """Reads a view (`pipeline.kafka.table.Table`). Orders are made when they are first asked for and then kept up.

    A record that cannot be read is in no list; who asks for it by its id gets `Undecodable`. The endpoint of a replay
    alone is in no list either.
    """

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec
        self._states = EndpointStates(view, codec)
        self._tests = WebhookTests(view, codec)
        self._tenants: Order | None = None
        self._webhooks: OrderedDict[str, Order] = OrderedDict()
        view.watch(self._changed)

    async def learn(self) -> None:
        """Know the schemas of all records that are there, older versions' too. Raises `Unreachable`."""
        for topic in (TENANTS, SUBSCRIPTIONS, KEYS, WEBHOOK_TESTS, REPLAYS):
            records = (self._view.get(topic, key) for key in self._view.keys(topic))
            await self._codec.learn(not_ours(self._codec, records))

    def tenant(self, tenant: str) -> Tenant | None:
        """The tenant of that id."""
        raw = self._view.get(TENANTS, tenant)
        return None if raw is None else self._codec.decode_tenant(raw)

    def webhook(self, tenant: str, webhook: str) -> Subscription | None:
        """That webhook of that tenant."""
        raw = self._view.get(SUBSCRIPTIONS, f"{tenant}/{webhook}")
        return None if raw is None else self._codec.decode_subscription(raw)

    def tenants(self, after: Place | None, limit: int) -> Page[Tenant]:
        """The tenants that follow a place, newest first."""
        if self._tenants is None:
            self._tenants = self._ordered(self._view.keys(TENANTS), self.tenant)
        return page(self._tenants, after, limit, self.tenant)

    def webhooks(self, tenant: str, after: Place | None, limit: int) -> Page[Subscription]:
        """The tenant's webhooks that follow a place, newest first."""
        order = self._webhooks.get(tenant)
        if order is None:
            ids = (path.partition("/")[2] for path in self.webhook_paths(tenant))
            order = self._webhooks[tenant] = self._ordered(ids, partial(self._shown, tenant))
            if len(self._webhooks) > _ORDERS:
                self._webhooks.popitem(last=False)
        return page(order, after, limit, partial(self._shown, tenant))

    def webhook_paths(self, tenant: str) -> Iterator[str]:
        """`tenant/webhook` of every webhook of the tenant, and of endpoints of replays alone."""
        return self._view.keys(SUBSCRIPTIONS, tenant)

    def test(self, path: str) -> WebhookTest | None:
        """The latest test of the configuration of `tenant/webhook`, if it was ever tested."""
        return self._tests.of(path)

    async def states(self, paths: Sequence[str]) -> dict[str, EndpointState]:
        """What the senders know of the endpoints of these webhooks; those of which they know nothing are left out.

        A sender of a newer version may have brought another schema: while it cannot be learned, it has said nothing.
        """
        with suppress(Unreachable):
            await self._codec.learn(not_ours(self._codec, (self._view.get(ENDPOINT_STATE, path) for path in paths)))
        return {path: state for path in paths if (state := self._states.of(path)) is not None}

    def _shown(self, tenant: str, webhook: str) -> Subscription | None:
        held = self.webhook(tenant, webhook)
        return None if held is None or held.replay is not None else held

    def _ordered(self, ids: Iterator[str], get: Callable[[str], T | None]) -> Order:
        held = [(record.created_ms, key) for key in ids if (record := readable(get, key)) is not None]
        return Order(sorted((-created_ms, key) for created_ms, key in held), {key: made for made, key in held})

    def _changed(self, topic: str, key: str) -> None:
        if topic not in (TENANTS, SUBSCRIPTIONS):
            return
        tenant, _, webhook = key.partition("/")
        order = self._tenants if topic == TENANTS else self._webhooks.get(tenant)
        if order is None:
            return
        record: Tenant | Subscription | None
        record = readable(self.tenant, tenant) if topic == TENANTS else readable(partial(self._shown, tenant), webhook)
        if record is None:
            order.drop(webhook or tenant)
        else:
            order.put(webhook or tenant, record.created_ms)


def readable(get: Callable[[str], T | None], key: str) -> T | None:
    """The record; None also for one that cannot be read: it must not take the others with it."""
    try:
        return get(key)
    except Undecodable as error:
        _log.error("a control record cannot be read", key=key, reason=str(error))
        return None


def page(order: Order, after: Place | None, limit: int, get: Callable[[str], T | None]) -> Page[T]:
    """The records that follow a place."""
    places = order.after(after, limit + 1)
    items = tuple(record for _, key in places[:limit] if (record := readable(get, key)) is not None)
    return Page(items, places[limit - 1] if len(places) > limit else None)
