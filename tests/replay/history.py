"""A past of which everything is known: what two customers sent, and what became of a third one's, kind by kind.

Each customer's events are `e0`, `e1`, … in the order of their sending; the clinic's webhooks have seen every outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.http.receiver import Script
from pipeline.kafka import topics
from tests.live_cluster import LiveCluster
from tests.providers.system import System
from tests.providers.ways import Json
from tests.replay.customers import Customer, Hook, boundary, ends, recorded

PLATFORM = "platform"
WARDS = ("ward 1", "ward 2", "ward 3", "ward 4")
"""Of the clinic: alike, so that each may be asked for by its own outcome."""


@dataclass(frozen=True)
class Case:
    """A replay, and what it must send: to each webhook these events, of which it has had `again`.

    `since` and `until` name a moment; webhooks are named too.
    """

    asked: Mapping[str, Any]
    wanted: Mapping[str, str]
    again: int = 0
    owner: str = "shop"

    @property
    def events(self) -> dict[str, tuple[str, ...]]:
        """By webhook."""
        return {name: tuple(events.split()) for name, events in self.wanted.items()}


CASES = {
    "all": Case({}, {"every": "e0 e1 e2 e3 e4 e5", "orders": "e0 e1 e3"}, 9),
    "types": Case({"types": ["invoice.*"]}, {"every": "e2 e4"}, 2),
    "type": Case({"types": ["user.created", "order.shipped"]}, {"every": "e3 e5", "orders": "e3"}, 3),
    "webhook": Case({"webhooks": ["orders"]}, {"orders": "e0 e1 e3"}, 3),
    "before": Case({"until": "middle"}, {"every": "e0 e1 e2", "orders": "e0 e1"}, 5),
    "after": Case({"since": "middle"}, {"every": "e3 e4 e5", "orders": "e3"}, 4),
    "offsets": Case({"offsets": "after the middle"}, {"every": "e3 e4 e5", "orders": "e3"}, 4),
    "all tenants": Case({"types": ["user.created"]}, {"every": "e5", "theirs": "e0"}, 2, PLATFORM),
    "failed": Case({"webhooks": ["ward 1"], "outcome": "failed"}, {"ward 1": "e5"}, 0, "clinic"),
    "skipped": Case({"webhooks": ["ward 2"], "outcome": "skipped"}, {"ward 2": "e4"}, 0, "clinic"),
    "never routed": Case({"webhooks": ["ward 3"], "outcome": "never_routed"}, {"ward 3": "e0 e1"}, 0, "clinic"),
    "missed": Case({"webhooks": ["ward 4"], "outcome": "missed"}, {"ward 4": "e0 e1 e4 e5"}, 0, "clinic"),
    "nothing": Case({"types": ["order.returned"]}, {}),
}


@dataclass
class Past:
    """The customers and their webhooks by name, its moments, and where `events` ended in the middle and at the end."""

    system: System
    cluster: LiveCluster
    customers: dict[str, Customer] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    moments: dict[str, str] = field(default_factory=dict)
    ends: dict[str, dict[int, int]] = field(default_factory=dict)

    @classmethod
    def happened(cls, system: System, cluster: LiveCluster) -> Past:
        """Make it."""
        past = cls(system, cluster)
        past._mark("begin")
        past._begins()
        past._mark("middle")
        past._goes_on()
        past._mark("end")
        return past

    def asked(self, case: Case) -> Json:
        """What the API is asked for."""
        whose = {} if case.owner == PLATFORM else {"tenant": self.customers[case.owner].tenant}
        named = dict(case.asked)
        if "webhooks" in named:
            named["webhooks"] = [self.hooks[name].id for name in named["webhooks"]]
        if named.pop("offsets", None):
            return {**whose, **named, "offsets": self._after_the_middle()}
        window = {"since": "begin", "until": "end"} | {
            name: named.pop(name) for name in ("since", "until") & named.keys()
        }
        return {**whose, **named, **{name: self.moments[moment] for name, moment in window.items()}}

    def _after_the_middle(self) -> list[Json]:
        middle, end = self.ends["middle"], self.ends["end"]
        return [{"partition": n, "from": middle[n], "to": end[n]} for n in end if end[n] > middle[n]]

    def _mark(self, moment: str) -> None:
        self.moments[moment], self.ends[moment] = boundary(), ends(self.system, topics.EVENTS)

    def _begins(self) -> None:
        """Of the clinic's two events nobody wants to know."""
        self.customers = {name: Customer.new(self.system) for name in ("shop", "other", "clinic")}
        shop, other, clinic = self.customers.values()
        self.hooks = {"every": shop.hook("*"), "orders": shop.hook("order.*"), "theirs": other.hook("*")}
        self.hooks |= {name: clinic.hook("invoice.*") for name in WARDS}
        shop.send("order.paid", "order.paid", "invoice.paid")
        clinic.send("order.paid", "order.paid")
        self.system.routed()

    def _goes_on(self) -> None:
        """The clinic's webhooks want everything now: they get two events, and of the next two neither."""
        shop, other, clinic = self.customers.values()
        shop.send("order.shipped")
        shop.send_bare(self.cluster, "invoice.paid")
        shop.send("user.created")
        other.send("user.created")
        other.send_bare(self.cluster, "order.paid")
        for hook in self._wards:
            hook.wants("*")
        clinic.send("order.paid", "invoice.paid")
        for hook in self._wards:
            hook.endpoint.until(2)
        self._lost("order.late", Script(status=503), "cancelled")
        self._lost("order.gone", Script(status=410), "failed")
        recorded(self.system)

    def _lost(self, kind: str, answers: Script, status: str) -> None:
        """An event that never arrives: a webhook that is switched off while it waits, or one that says it is gone."""
        for hook in self._wards:
            hook.endpoint.answer(answers)
        (event,) = self.customers["clinic"].send(kind)
        for hook in self._wards:
            hook.endpoint.tried()
            if status == "cancelled":
                hook.act("deactivate")
        for hook in self._wards:
            hook.logged(event, status)
            hook.act("activate")
            hook.endpoint.answer(Script())

    @property
    def _wards(self) -> list[Hook]:
        return [self.hooks[name] for name in WARDS]
