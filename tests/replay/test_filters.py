"""Every filter against a ledger: what the plan counted is what arrives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from pipeline.kafka import topics
from tests.live_cluster import LiveCluster
from tests.providers.system import System
from tests.providers.ways import Json, Rest
from tests.replay.customers import Replay, ends, event_of, once, plan
from tests.replay.history import CASES, PLATFORM, Case, Past

pytestmark = [pytest.mark.kafka, pytest.mark.replay]

WRITTEN = (topics.REPLAYS, topics.DELIVERIES_REPLAY, topics.AUDIT)


@dataclass(frozen=True)
class Ran:
    """The past, the plan of each case, and its replay; what was written while all was only planned."""

    past: Past
    plans: dict[str, Json]
    replays: dict[str, Replay]
    planning_wrote: int


@pytest.fixture(scope="module")
def ran(system: System, cluster: LiveCluster) -> Ran:
    """All are planned first, then all run side by side."""
    past = Past.happened(system, cluster)
    before = _written(system)
    plans = {name: plan(_owner(past, case), **past.asked(case)) for name, case in CASES.items()}
    wrote = _written(system) - before
    replays = {name: Replay.ordered(_owner(past, case), **past.asked(case)) for name, case in CASES.items()}
    return Ran(past, plans, replays, wrote)


def _owner(past: Past, case: Case) -> Rest:
    if case.owner == PLATFORM:
        return Rest(past.system.url, past.system.key)
    return past.customers[case.owner].admin


def _written(system: System) -> int:
    return sum(end for name in WRITTEN for end in ends(system, name).values())


@pytest.mark.parametrize("name", CASES)
def test_the_plan_counts_what_the_ledger_says(ran: Ran, name: str) -> None:
    """Deliveries by webhook and by type, those that a webhook has had already, and that nothing is missing."""
    case, planned = CASES[name], ran.plans[name]
    sent = {ran.past.hooks[hook]: events for hook, events in case.events.items()}
    by_type = Counter(hook.customer.types[event] for hook, events in sent.items() for event in events)
    assert planned["by_webhook"] == {f"{hook.customer.tenant}/{hook.id}": len(events) for hook, events in sent.items()}
    assert planned["by_type"] == by_type
    assert planned["deliveries"] == sum(by_type.values())
    assert planned["events"] == len(
        {(hook.customer.tenant, event) for hook, events in sent.items() for event in events}
    )
    assert (planned["again"], planned["gap"], planned["unreadable"]) == (case.again, None, 0)


@pytest.mark.parametrize("name", CASES)
def test_what_is_planned_is_what_arrives(ran: Ran, name: str) -> None:
    """Each event exactly once at each webhook of the plan, nothing elsewhere, and the counts all say so."""
    replay, case = ran.replays[name], CASES[name]
    shown = replay.settled()
    came = {name: hook.endpoint.came(replay.id) for name, hook in ran.past.hooks.items()}
    assert came == {name: once(case.events.get(name, ())) for name in ran.past.hooks}
    count = ran.plans[name]["deliveries"]
    assert shown["progress"]["deliveries"] == count
    assert {name: number for name, number in shown["statuses"].items() if number} == (
        {"delivered": count} if count else {}
    )
    assert (shown["progress"]["reached"], shown["progress"]["unreadable"]) == (1.0, 0)


def test_a_plan_writes_nothing(ran: Ran) -> None:
    """Neither an order nor a delivery nor an audit record."""
    assert ran.planning_wrote == 0


def test_a_replayed_delivery_names_its_replay_and_the_first(ran: Ran) -> None:
    """A new webhook-id beside that of the first delivery, and the very body that the first one had."""
    replay, endpoint = ran.replays["all"], ran.past.hooks["every"].endpoint
    replay.settled()
    first = {event_of(got): got for got in endpoint.got()}
    again = {event_of(got): got for got in endpoint.got(replay.id)}
    assert first.keys() == again.keys() == ran.past.customers["shop"].types.keys()
    for event, got in again.items():
        assert got.webhook_id != first[event].webhook_id
        assert got.headers["webhook-first-id"] == first[event].webhook_id
        assert got.body == first[event].body
    assert all("webhook-first-id" not in got.headers for got in first.values())


def test_a_second_replay_is_counted_as_a_repeat(ran: Ran) -> None:
    """What a replay has delivered is delivered: nobody has missed it any more."""
    case = CASES["missed"]
    ran.replays["missed"].settled()
    planned = plan(_owner(ran.past, case), **ran.past.asked(case))
    assert planned["deliveries"] == 0
    everything = {**ran.past.asked(case), "outcome": "all"}
    assert plan(_owner(ran.past, case), **everything)["again"] == len(ran.past.customers["clinic"].types)
