"""The router's side of the join: tenants and subscriptions as the views have them, decoded when first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import structlog

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.filters import Content, content
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.states import EndpointStates
from pipeline.kafka.table import Table
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.ports import Tenancy
from pipeline.profiles import PROFILES

T = TypeVar("T")
_log = structlog.get_logger()
_TENANTS = 10_000
_TYPES = 1_000
"""How many tenants, and event types of each, are remembered ready for use."""


class ViewSubscribers:
    """Implements `ports.Subscribers` over a table of `subscriptions`, `tenants` and `endpoint-state`.

    A webhook that failures have disabled wants nothing: its events stay in the log. Endpoints of a replay alone are
    among the webhooks only with `targets`.

    `unreadable` has the records that were met and could not be read, by topic and key, and why; `unusable` the webhooks
    whose filter or projection this version cannot use.
    """

    def __init__(self, table: Table, codec: Codec, *, targets: bool = False) -> None:
        self._table, self._codec, self._targets = table, codec, targets
        self._known: OrderedDict[str, Tenancy] = OrderedDict()
        self.unreadable: dict[tuple[str, str], str] = {}
        self.unusable: dict[str, str] = {}
        self.states = EndpointStates(table, codec)
        table.watch(self._forget)

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""
        return self._table.offset(SUBSCRIPTIONS)

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant with its product and its webhooks; None if there is no such tenant.

        Raises `Undecodable` when its record cannot be read, or names a product that this version does not know.
        """
        if (known := self._known.get(tenant)) is not None:
            return known
        held = self._tenant(tenant)
        if held is None:
            return None
        made = self._tenancy(held)
        if not (
            made.unreadable or self._late(tenant)
        ):  # what cannot be read is looked at again: its schema may only be late
            self._known[tenant] = made
            if len(self._known) > _TENANTS:
                self._known.popitem(last=False)
        return made

    @property
    def warning(self) -> str | None:
        """What an operator should know; None when all could be read."""
        if self.unreadable:
            (topic, key), reason = next(iter(self.unreadable.items()))
            return f"{len(self.unreadable)} control records cannot be read; one is {key} of {topic}: {reason}"
        if self.unusable:
            key, reason = next(iter(self.unusable.items()))
            return (
                f"{len(self.unusable)} webhooks get nothing, and their events are dead letters; one is {key}: {reason}"
            )
        return self.states.warning

    def _tenant(self, tenant: str) -> Tenant | None:
        held = self._readable(TENANTS, tenant, self._codec.decode_tenant)
        if held is not None and (held.id != tenant or held.profile not in PROFILES):
            self._cannot(TENANTS, tenant, "it is another one's, or its product is not known to this version")
        if (reason := self.unreadable.get((TENANTS, tenant))) is not None:
            raise Undecodable(Reason.UNDECODABLE, f"the record of tenant {tenant} cannot be used: {reason}")
        return held

    def _tenancy(self, tenant: Tenant) -> Tenancy:
        profile = PROFILES[tenant.profile]
        if profile.unmet(tenant):
            return Tenancy(tenant, profile, _Wanting([]))
        webhooks = self._webhooks(tenant.id)
        matchers = [(held.webhook, profile.compile_matcher(held)) for held in webhooks]
        contents = {held.webhook: made for held in webhooks if (made := self._content(held)) is not None}
        keys = self._table.keys(SUBSCRIPTIONS, tenant.id)
        unreadable = tuple(key for key in keys if (SUBSCRIPTIONS, key) in self.unreadable)
        return Tenancy(tenant, profile, _Wanting(matchers), unreadable, contents)

    def _webhooks(self, tenant: str) -> list[Subscription]:
        """Those that want anything now."""
        every = (self._webhook(key) for key in self._table.keys(SUBSCRIPTIONS, tenant))
        return [held for held in every if held is not None and self._gets(held)]

    def _gets(self, held: Subscription) -> bool:
        return held.active and (self._targets or held.replay is None) and not self.states.disable(held)

    def _content(self, webhook: Subscription) -> Content | None:
        """One that cannot be used is told of; the router says so of each event that it would have to judge."""
        made = content(webhook)
        fault = made.fault if made is not None else None
        if fault is not None and self.unusable.get(webhook.path) != fault:
            self.unusable[webhook.path] = fault
            _log.error("what a webhook wants cannot be told", webhook=webhook.path, reason=fault)
        return made

    def _late(self, tenant: str) -> bool:
        return any(self.states.late(key) for key in self._table.keys(SUBSCRIPTIONS, tenant))

    def _webhook(self, key: str) -> Subscription | None:
        held = self._readable(SUBSCRIPTIONS, key, self._codec.decode_subscription)
        if held is not None and held.path != key:
            self._cannot(SUBSCRIPTIONS, key, "it is another one's")
            return None
        return held

    def _readable(self, topic: str, key: str, decode: Callable[[bytes], T]) -> T | None:
        """The record, decoded. One that cannot be read is remembered as such until there is another."""
        record = self._table.get(topic, key)
        try:
            held = None if record is None else decode(record)
        except Undecodable as error:
            self._cannot(topic, key, str(error))
            return None
        self.unreadable.pop((topic, key), None)
        return held

    def _cannot(self, topic: str, key: str, reason: str) -> None:
        if self.unreadable.get((topic, key)) != reason:
            _log.error("a control record cannot be read", topic=topic, key=key, reason=reason)
        self.unreadable[topic, key] = reason

    def _forget(self, topic: str, key: str) -> None:
        tenant = key.partition("/")[0]
        if topic == ENDPOINT_STATE and not (tenant in self._known and self.states.switched(key)):
            return
        self.unreadable.pop((topic, key), None)
        if topic == SUBSCRIPTIONS:
            self.unusable.pop(key, None)
        self._known.pop(tenant, None)


class _Wanting:
    """Which webhooks want a type: worked out once for each type."""

    def __init__(self, matchers: list[tuple[str, Callable[[str], bool]]]) -> None:
        self._matchers = matchers
        self._types: dict[str, tuple[str, ...]] = {}

    def __call__(self, event_type: str) -> tuple[str, ...]:
        if (found := self._types.get(event_type)) is None:
            if len(self._types) >= _TYPES:
                self._types.clear()
            found = tuple(webhook for webhook, wants in self._matchers if wants(event_type))
            self._types[event_type] = found
        return found
