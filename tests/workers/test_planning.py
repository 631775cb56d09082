"""What a plan counts, over messages as Kafka gives them and a delivery log of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from confluent_kafka import Message

from pipeline.errors import Unreachable
from pipeline.flow.deliver import Dead, Done, Skipped
from pipeline.flow.event import Event
from pipeline.flow.expressions import compiled
from pipeline.flow.filters import Content
from pipeline.flow.history import Entry
from pipeline.flow.replay import Ordered, Outcome, Replay, Span
from pipeline.flow.subscription import Tenant
from pipeline.flow.window import Gap
from pipeline.kafka.sieve import Sorting
from pipeline.ports import Tenancy
from pipeline.profiles import PROFILES
from pipeline.store.log import DeliveryLog, open_log
from pipeline.workers import planning
from pipeline.workers.counting import duration_s
from pipeline.workers.planning import Parts, Plan, Seen, plan
from pipeline.workers.sifting import Fate, Names, Sifted
from tests.store.log.entries import attempt, delivery
from tests.workers.parts import CODEC, HEADS

pytestmark = pytest.mark.replay

T = TypeVar("T")
HEAD = HEADS["event"]
ORDER = Replay("rpl_1", "acme", Ordered.RUNNING, (Span(0, 0, 1_000),))


def message(number: int, type_: str = "order.paid", tenant: str = "acme", **more: Any) -> Message:
    """A record as the API writes it; `headers` and `value` may be others."""
    event = Event(f"evt_{number}", tenant, type_, 1_000, more.pop("data", "{}"))
    own = {"value": CODEC.encode_event(event), "headers": [("tenant", tenant.encode()), ("type", type_.encode())]}
    return Message(topic="events", partition=0, offset=number, timestamp=(1, 2_000 + number), **(own | more))


@dataclass
class Window:
    """A scan whose messages come a few at a time."""

    messages: list[Message]
    at_once: int = 3
    next: dict[int, int] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)
    sorting: Sorting = field(default_factory=lambda: Sorting(HEAD))
    read: int = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to let go of."""

    @property
    def over(self) -> bool:
        """Whether all has been given out."""
        return not self.messages and not self.sorting.held_back

    async def sift(self, limit: int, wait_s: float, fates: Mapping[Names, Fate]) -> Sifted:  # noqa: ARG002
        """The next few."""
        part, self.messages = self.messages[: self.at_once], self.messages[self.at_once :]
        made = self.sorting(part, fates)
        self.read += len(made.read)
        return made


@dataclass
class Tenants:
    """Each tenant's webhooks by what they want."""

    webhooks: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=lambda: {"acme": {"wh_1": ("*",)}})
    contents: dict[str, Content] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    profile: str = "standard"
    offset: int = 17

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant, if it is there."""
        if tenant not in self.webhooks:
            return None
        profile = PROFILES[self.profile]
        matchers = {name: profile.catalogue.matcher(wanted) for name, wanted in self.webhooks[tenant].items()}
        wanting: Callable[[str], tuple[str, ...]] = lambda type_: tuple(  # noqa: E731
            name for name, wants in matchers.items() if wants(type_)
        )
        return Tenancy(Tenant(tenant, "Acme", self.profile), profile, wanting, self.unreadable, self.contents)


@dataclass
class Asked:
    """The log as an API asks it; its database may be away."""

    log: DeliveryLog
    away: bool = False
    questions: int = 0

    async def ask(self, question: Callable[[DeliveryLog], T]) -> T:
        """What it answers."""
        self.questions += 1
        if self.away:
            raise Unreachable("the delivery log's database does not answer")
        return await asyncio.to_thread(question, self.log)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryLog]:
    folder: Path = tmp_path_factory.mktemp("plan")
    with closing(open_log(f"sqlite:///{folder}/log.sqlite")) as log:
        yield log


@pytest.fixture
def log(opened: DeliveryLog) -> Asked:
    opened.clear()
    return Asked(opened)


async def learn(values: Sequence[bytes | None]) -> None:
    """They are known."""


async def planned(
    window: Window | list[Message], log: Asked, order: Replay = ORDER, tenants: Tenants | None = None, **more: Any
) -> Plan:
    window = window if isinstance(window, Window) else Window(window)
    rate: Callable[[str, str], float | None] = more.pop("rate", lambda _tenant, _webhook: None)
    learns: Callable[[Sequence[bytes | None]], Awaitable[None]] = more.pop("learn", learn)
    parts = Parts(CODEC, learns, tenants or Tenants(), lambda _: window, log, rate)
    if "recorded" in more:
        parts = replace(parts, recorded=more.pop("recorded"))
    return await plan(parts, order, **more)


def had(*numbers: int, webhook: str = "wh_1", then: Any = None, **more: Any) -> list[Entry]:
    """Deliveries of these events that have ended so; delivered, if nothing is said."""
    own = {"webhook": webhook, **more}
    return [
        entry
        for n in numbers
        for entry in (
            delivery(n, id=f"msg_{webhook}_{n}", offset=n, **own),
            attempt(n, then or Done(), delivery=f"msg_{webhook}_{n}", offset=n, **own),
        )
    ]


async def test_events_and_deliveries_are_counted_by_type_and_webhook(log: Asked) -> None:
    """What the subscriptions want now, each delivery of it, with the records' bytes and times; the rest is scanned."""
    window = Window([message(n, type_) for n, type_ in enumerate(["order.paid", "order.sent", "user.made"] * 4)])
    wants: dict[str, tuple[str, ...]] = {
        "wh_all": ("*",),
        "wh_orders": ("order.*",),
        "wh_paid": ("order.paid",),
        "wh_none": ("other.*",),
    }
    made = await planned(window, log, tenants=Tenants({"acme": wants, "shop": {"wh_x": ("*",)}}))
    size = {kind: len(CODEC.encode_event(Event("evt_0", "acme", kind, 1_000, "{}"))) for kind in made.by_type}
    assert made.scanned == made.events == 12
    assert made.events_by_type == {"order.paid": 4, "order.sent": 4, "user.made": 4}
    assert made.by_type == {"order.paid": 12, "order.sent": 8, "user.made": 4}
    assert made.by_webhook == {"acme/wh_all": 12, "acme/wh_orders": 8, "acme/wh_paid": 4}
    assert made.deliveries == 24
    assert made.bytes == pytest.approx(sum(made.by_type[kind] * size[kind] for kind in size), abs=10)
    assert (made.oldest_ms, made.newest_ms) == (2_000, 2_011)
    assert window.read == 0  # all of it by the headers


@pytest.mark.parametrize(
    ("narrowed", "deliveries"),
    [
        ({}, 4),
        ({"types": ("order.*",)}, 3),
        ({"types": ("user.made", "order.sent")}, 2),
        ({"webhooks": ("wh_2",)}, 1),
        ({"webhooks": ("wh_2",), "types": ("user.*",)}, 0),
        ({"tenant": "shop"}, 1),
        ({"tenant": None}, 5),
        ({"tenant": "nobody"}, 0),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["headers", "decoded"])
async def test_an_order_narrows(log: Asked, told: bool, narrowed: dict[str, Any], deliveries: int) -> None:  # noqa: FBT001
    """By tenant, types and webhooks, whether the headers tell them or the record must be decoded."""
    kinds = [("acme", "order.paid"), ("acme", "order.sent"), ("acme", "user.made"), ("shop", "order.paid")]
    more: dict[str, Any] = {} if told else {"headers": []}
    window = Window([message(n, kind, tenant, **more) for n, (tenant, kind) in enumerate(kinds)])
    tenants = Tenants({"acme": {"wh_1": ("*",), "wh_2": ("order.paid",)}, "shop": {"wh_1": ("*",)}})
    made = await planned(window, log, replace(ORDER, **narrowed), tenants)
    assert (made.scanned, made.deliveries, made.unreadable) == (4, deliveries, 0)
    assert window.read == (0 if told else 4)


async def test_a_header_that_lies_opens_nothing(log: Asked) -> None:
    """What must be decoded is judged by what the record says: another tenant's event is not counted for this one."""
    lying = [("tenant", b"acme"), ("type", b"order.paid")]
    tenants = Tenants({"acme": {"wh_1": ("*",)}, "shop": {"wh_1": ("*",)}}, {"wh_1": Content(compiled("data.a"))})
    made = await planned([message(1, tenant="shop", data='{"a":1}', headers=lying)], log, tenants=tenants)
    assert (made.scanned, made.deliveries) == (1, 0)


async def test_a_filter_of_content_is_asked_of_each_event(log: Asked) -> None:
    """Only those that a webhook's filter takes are counted for it, and all of them for the one beside it."""
    tenants = Tenants({"acme": {"wh_1": ("*",), "wh_2": ("*",)}}, {"wh_1": Content(compiled("data.a == `1`"))})
    made = await planned([message(n, data=f'{{"a":{n % 3}}}') for n in range(9)], log, tenants=tenants)
    assert made.by_webhook == {"acme/wh_1": 3, "acme/wh_2": 9}
    assert made.events == 9


@pytest.mark.parametrize(
    ("more", "tenants"),
    [
        ({"value": b"{}"}, Tenants()),
        ({"value": None}, Tenants()),
        ({"tenant": "gone"}, Tenants()),
        ({"type_": "no.such.type"}, Tenants(profile="monithq")),
        ({"data": "no JSON", "headers": []}, Tenants()),
        ({}, Tenants(unreadable=("acme/wh_2",))),
    ],
    ids=["no Avro", "empty", "no tenant", "no type of the product", "no JSON", "a webhook that cannot be read"],
)
async def test_what_nothing_can_be_made_of_is_counted(log: Asked, more: dict[str, Any], tenants: Tenants) -> None:
    """What the router would have made a dead letter of, or of what it could not say whether a webhook wants it."""
    made = await planned([message(1, **more)], log, replace(ORDER, tenant=None), tenants)
    assert made.unreadable == 1
    assert made.deliveries == len(tenants.unreadable)  # the webhook beside it still gets it


@pytest.mark.parametrize(
    ("outcome", "events"),
    [
        (Outcome.ALL, {0, 1, 2, 3, 4}),
        (Outcome.FAILED, {1}),
        (Outcome.SKIPPED, {2}),
        (Outcome.NEVER_ROUTED, {3, 4}),
        (Outcome.MISSED, {1, 2, 3, 4}),
    ],
)
async def test_an_outcome_is_asked_of_the_log(log: Asked, outcome: Outcome, events: set[int]) -> None:
    """By event and webhook; with an outcome, nothing comes again: what was delivered is not asked for."""
    own = [{"type": f"order.t{n}"} for n in range(4)]
    log.log.write([*had(0, **own[0]), *had(1, then=Dead("x"), **own[1]), *had(2, then=Skipped(), **own[2])])
    log.log.write(had(3, webhook="wh_other", **own[3]))
    made = await planned([message(n, f"order.t{n}") for n in range(5)], log, replace(ORDER, outcome=outcome))
    assert {int(kind[-1]) for kind in made.by_type} == events
    assert made.again == (outcome is Outcome.ALL)


async def test_the_replays_own_deliveries_do_not_count(log: Asked) -> None:
    """A plan of an order that is running is that of the whole order."""
    log.log.write([*had(1, then=Dead("exhausted")), delivery(1, id="msg_r", replay=ORDER.id, offset=9)])
    made = await planned([message(1)], log, replace(ORDER, outcome=Outcome.FAILED))
    assert made.deliveries == 1


@pytest.mark.parametrize("content", [False, True], ids=["counted", "decoded"])
async def test_what_a_webhook_would_get_again_is_counted(log: Asked, content: bool) -> None:  # noqa: FBT001
    """Each delivery of an event that was delivered there, of the types and webhooks of the order alone."""
    log.log.write([*had(0, 1, 2), *had(0, webhook="wh_2"), *had(3, then=Dead("exhausted")), *had(5, type="user.made")])
    tenants = Tenants({"acme": {"wh_1": ("*",), "wh_2": ("*",)}})
    if content:
        tenants.contents["wh_1"] = Content(compiled("id"))
    events = [message(n) for n in range(5)] + [message(5, "user.made")]
    expected = {(): 5, ("order.*",): 4, ("user.*",): 1}
    for types, again in expected.items():
        assert (await planned(list(events), log, replace(ORDER, types=types), tenants)).again == again
    assert (await planned(list(events), log, replace(ORDER, webhooks=("wh_2",)), tenants)).again == 1


async def test_an_endpoint_of_the_replays_own_has_had_nothing(log: Asked) -> None:
    """The log is not even asked."""
    order = replace(ORDER, target_url="https://example.com/", webhooks=("wh_1",))
    log.away = True
    assert (await planned([message(1)], log, order)).again == 0
    assert log.questions == 0


@pytest.mark.parametrize("content", [False, True], ids=["counted", "decoded"])
async def test_a_log_that_does_not_answer_leaves_only_what_comes_again_unknown(log: Asked, content: bool) -> None:  # noqa: FBT001
    """A plan of all outcomes is made without it, and says so; it is asked once, not for every part of the window."""
    log.away = True
    tenants = Tenants(contents={"wh_1": Content(compiled("id"))} if content else {})
    made = await planned([message(n) for n in range(9)], log, tenants=tenants)
    assert (made.deliveries, made.again, log.questions) == (9, None, 1)


async def test_an_outcome_cannot_be_planned_without_the_log(log: Asked) -> None:
    """Nothing is guessed."""
    log.away = True
    with pytest.raises(Unreachable, match="delivery log"):
        await planned([message(1)], log, replace(ORDER, outcome=Outcome.MISSED))


async def test_a_plan_that_depends_on_the_log_waits_for_it(log: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent a moment ago is not taken for never routed; a log that stays behind is told, without a guess."""
    lacks = ["it lacks 2", "it lacks 1", None]

    async def recorded() -> str | None:
        if lacks[0] is None:
            log.log.write(had(1))
        return lacks.pop(0) if len(lacks) > 1 else lacks[0]

    made = await planned([message(1)], log, replace(ORDER, outcome=Outcome.NEVER_ROUTED), recorded=recorded)
    assert (made.deliveries, lacks) == (0, [None])
    monkeypatch.setattr(planning, "_LOG_PATIENCE_S", 0.0)
    lacks[:] = ["it lacks 2"]
    with pytest.raises(Unreachable, match="it lacks 2"):
        await planned([message(1)], log, replace(ORDER, outcome=Outcome.FAILED), recorded=recorded)
    assert (await planned([message(1)], log, recorded=recorded)).deliveries == 1


async def test_a_window_that_does_not_come_is_given_up(log: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka that says nothing for too long is told as such; nobody waits for ever."""
    monkeypatch.setattr(planning, "PATIENCE_S", 0.0)
    window = Window([message(1)], at_once=0)
    with pytest.raises(Unreachable, match="not given a record"):
        await planned(window, log)


async def test_progress_is_told_while_it_is_read(log: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many records of how many, and what they have come to so far."""
    monkeypatch.setattr(planning, "_TOLD_S", 0.0)
    seen: list[Seen] = []
    await planned([message(n) for n in range(9)], log, on_progress=seen.append)
    assert [one.of for one in seen] == [1_000] * len(seen)
    assert (seen[-1].scanned, seen[-1].deliveries) == (9, 9)
    assert sorted(one.scanned for one in seen) == [one.scanned for one in seen]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, Gap((2,), None, None, 7)),
        (Gap((1,), 5, 9, None), Gap((1, 2), 5, 9, None)),
        (Gap((2,), None, 9, 3), Gap((2,), None, 9, 10)),
    ],
)
async def test_what_retention_takes_meanwhile_is_part_of_the_gap(log: Asked, before: Gap | None, after: Gap) -> None:
    """Whether there was one before or not; how many are gone stays unknown where it was."""
    assert (await planned(Window([], taken={2: 7}), log, gap=before)).gap == after
    assert (await planned([], log, gap=before)).gap == before


@pytest.mark.parametrize(
    ("by_webhook", "rate", "seconds"),
    [
        ({}, None, 0.0),
        ({"a/w": 1_000}, None, 2.0),
        ({"a/w": 1_000}, 100.0, 10.0),
        ({"a/w": 1_000, "a/slow": 80}, None, 10.0),
        ({"a/w": 9_000, "a/slow": 80}, None, 18.2),
        ({"a/least": 5}, None, 50.0),
    ],
    ids=["nothing", "default rate", "own rate", "a slow webhook", "many", "one that hardly takes any"],
)
def test_the_duration_is_that_of_the_slowest(by_webhook: dict[str, int], rate: float | None, seconds: float) -> None:
    """All at the replay's rate, and each webhook's at four fifths of its own: 10 a second for the slow one.

    None is given less than one in ten seconds, whatever it allows.
    """
    own = {"slow": 10.0, "least": 1e-308}
    assert duration_s(by_webhook, rate, lambda _, webhook: own.get(webhook)) == seconds
