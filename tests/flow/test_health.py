from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.flow.deliver import Verdict
from pipeline.flow.event import fault
from pipeline.flow.health import OPERATIONS, Change, EndpointState, HealthRule, operational_event
from pipeline.profiles.standard import STANDARD

HOUR = 3_600_000
NOW = 1_800_000_000_000
NEW = EndpointState("acme", "wh_1", generation=3)
RULE = HealthRule.parse("120h", 20)
FAILURES = [verdict for verdict in Verdict if verdict not in {Verdict.DELIVERED, Verdict.SKIPPED, Verdict.PROXY}]

attempts = st.lists(st.tuples(st.sampled_from(Verdict), st.integers(0, 30 * HOUR)), max_size=60)
"""Verdicts, each with the time that passed before it."""


def told(rule: HealthRule, *verdicts: tuple[Verdict, float]) -> tuple[EndpointState, list[tuple[float, Change]]]:
    """The state after attempts at these hours, and what was told at which hour."""
    state, changes = NEW, []
    for verdict, hour in verdicts:
        state, change = rule.after(state, verdict, NOW + int(hour * HOUR))
        if change is not None:
            changes.append((hour, change))
    return state, changes


def failing(hours: float, failures: int) -> EndpointState:
    """An endpoint that has failed so often since NOW less so many hours, and was warned of as it should be."""
    warned_h = 72 if hours >= 72 else 24 if hours >= 24 else 0
    return replace(NEW, failing_since_ms=NOW - int(hours * HOUR), failures=failures, warned_h=warned_h)


@given(attempts, st.sampled_from(FAILURES))
def test_a_success_always_clears(before: list[tuple[Verdict, int]], failure: Verdict) -> None:
    """Whatever came before, a success leaves no failure counted, unless the endpoint is disabled: that stays."""
    state, now_ms = NEW, NOW
    for verdict, passed_ms in before:
        now_ms += passed_ms
        state, _ = RULE.after(state, verdict, now_ms)
    after, _ = RULE.after(state, Verdict.DELIVERED, now_ms)
    if state.disabled:
        assert after is state
        return
    assert (after.failing_since_ms, after.failures, after.warned_h, after.disabled) == (None, 0, 0, False)
    if failure is not Verdict.GONE:
        assert RULE.after(after, failure, now_ms + 1)[0] == replace(
            after, failing_since_ms=now_ms + 1, failures=1, last_verdict=failure.value, time_ms=now_ms + 1
        )


@given(attempts, st.integers(1, 200), st.integers(1, 30))
def test_it_is_never_disabled_before_both_bounds(before: list[tuple[Verdict, int]], hours: int, least: int) -> None:
    """An endpoint that is not gone is disabled exactly when it failed so long and so often with no success between."""
    rule = HealthRule(hours * HOUR, least)
    state, now_ms, since_ms, count = NEW, NOW, NOW, 0
    for verdict, passed_ms in before:
        now_ms += passed_ms
        if verdict is Verdict.DELIVERED:
            count = 0
        elif verdict in FAILURES:
            since_ms, count = (since_ms if count else now_ms), count + 1
        state, change = rule.after(state, verdict, now_ms)
        due = count >= least and now_ms - since_ms >= hours * HOUR and verdict in FAILURES
        assert state.disabled == (due or verdict is Verdict.GONE)
        assert (change is Change.DISABLED) == state.disabled
        if state.disabled:
            assert state.reason == ("gone" if verdict is Verdict.GONE else "failing")
            return


def test_one_that_is_gone_is_disabled_at_once() -> None:
    """The first 410 disables, and says that it is gone."""
    state, change = RULE.after(NEW, Verdict.GONE, NOW)
    assert (state.disabled, state.reason, state.last_verdict, change) == (True, "gone", "gone", Change.DISABLED)


@pytest.mark.parametrize(
    ("hours", "failures", "disabled"),
    [(120, 19, True), (120, 18, False), (119.999, 1_000, False), (1_000, 19, True), (1_000, 0, False)],
)
def test_failures_disable_at_both_bounds(hours: float, failures: int, *, disabled: bool) -> None:
    """It takes 120 hours and 20 attempts, this one counted: each bound alone does not suffice."""
    state, change = RULE.after(failing(hours, failures), Verdict.TIMEOUT, NOW)
    assert (state.disabled, change) == ((True, Change.DISABLED) if disabled else (False, None))


@pytest.mark.parametrize("verdict", FAILURES)
def test_every_verdict_of_the_endpoint_s_counts(verdict: Verdict) -> None:
    """What is no success, and the endpoint's own doing, is a failure, since the first one."""
    first, _ = RULE.after(NEW, verdict, NOW)
    assert (first.failures, first.failing_since_ms, first.last_verdict) == (1, NOW, verdict.value)


@pytest.mark.parametrize("verdict", [Verdict.SKIPPED, Verdict.PROXY])
def test_what_is_not_the_endpoint_s_doing_counts_for_nothing(verdict: Verdict) -> None:
    """A delivery that was not sent, or that our own proxy lost, says nothing of the endpoint."""
    held = failing(500, 500)
    assert RULE.after(held, verdict, NOW) == (held, None)


@pytest.mark.parametrize("held", [NEW, replace(NEW, last_verdict="delivered", capacity=3.5, time_ms=NOW)])
def test_a_success_with_nothing_to_clear_costs_nothing(held: EndpointState) -> None:
    """The state is the same object: nothing is written for an endpoint that fares well."""
    state, change = RULE.after(held, Verdict.DELIVERED, NOW)
    assert state is held
    assert change is None


def test_warnings_come_after_a_day_and_after_three() -> None:
    """Failing is told once after 24 and once after 72 hours, recovering once, and a new failure begins from nothing."""
    failures = [(Verdict.TIMEOUT, hour) for hour in (0, 23.9, 24, 30, 71, 72.5, 80)]
    _, changes = told(RULE, *failures, (Verdict.DELIVERED, 81), (Verdict.DELIVERED, 82), (Verdict.TIMEOUT, 83))
    assert changes == [(24, Change.FAILING), (72.5, Change.FAILING), (81, Change.RECOVERED)]


def test_what_was_not_warned_of_does_not_recover() -> None:
    """An endpoint that failed for an hour has nothing told of it, neither its failing nor its recovery."""
    state, changes = told(RULE, (Verdict.TIMEOUT, 0), (Verdict.TIMEOUT, 1), (Verdict.DELIVERED, 2))
    assert changes == []
    assert (state.last_verdict, state.time_ms) == ("delivered", NOW + 2 * HOUR)


def test_a_long_silence_is_one_warning() -> None:
    """Where no attempt was made between the two warnings only the graver one is given."""
    state, changes = told(RULE, (Verdict.DNS, 0), (Verdict.DNS, 100), (Verdict.DNS, 101))
    assert changes == [(100, Change.FAILING)]
    assert state.warned_h == 72


def test_one_that_is_disabled_stays_as_it_is() -> None:
    """What was in flight when an endpoint was disabled neither enables it again nor disables it a second time."""
    held = replace(failing(130, 30), disabled=True, reason="failing")
    assert {RULE.after(held, verdict, NOW) for verdict in Verdict} == {(held, None)}


def test_what_isolation_knows_is_kept() -> None:
    """Breaker, reservation and capacity are another rule's: health leaves them as they are."""
    held = replace(NEW, breaker_until_ms=1, reserved_until_ms=2, capacity=0.5)
    failed, _ = RULE.after(held, Verdict.CONNECT, NOW)
    well, _ = RULE.after(failed, Verdict.DELIVERED, NOW)
    for state in (failed, well):
        assert (state.breaker_until_ms, state.reserved_until_ms, state.capacity) == (1, 2, 0.5)


@pytest.mark.parametrize(("generation", "counts"), [(2, True), (3, True), (4, False)])
def test_a_state_of_an_older_generation_counts_for_nothing(generation: int, *, counts: bool) -> None:
    """A webhook that was activated or edited since is not disabled by what was written before."""
    assert replace(NEW, disabled=True).disables(generation) is counts
    assert not NEW.disables(generation)


def test_the_setting_is_refused_by_its_name() -> None:
    """A length of time that cannot be read is refused with the variable that holds it."""
    with pytest.raises(SettingsError, match="PIPELINE_DISABLE_AFTER: '5 days' is not a length of time"):
        HealthRule.parse("5 days", 20)


@pytest.mark.parametrize("change", Change)
def test_the_operational_event_can_be_delivered_like_any_other(change: Change) -> None:
    """It is an event that the standard product sends, of a tenant that no customer's id can be mistaken for."""
    event = operational_event(failing(24, 7), change, NOW)
    assert (event.tenant, event.type, event.time_ms) == (OPERATIONS, change.value, NOW)
    assert fault(event) is None
    assert STANDARD.refusal(event) is None


def test_the_operational_event_tells_which_webhook_and_why() -> None:
    """Its data names the webhook and its plight: neither URL nor secret, and times as people and machines read them."""
    held = replace(failing(0, 21), disabled=True, reason="gone", last_verdict="gone")
    assert json.loads(operational_event(held, Change.DISABLED, NOW).data) == {
        "tenant": "acme",
        "webhook": "wh_1",
        "failing_since": "2027-01-15T08:00:00.000Z",
        "failures": 21,
        "last_verdict": "gone",
        "reason": "gone",
    }


def test_a_second_telling_is_the_same_event() -> None:
    """The id is the change's own: two senders that notice it at other times, after other failures, tell it once."""
    first = operational_event(failing(24, 7), Change.FAILING, NOW)
    again = operational_event(failing(24, 9), Change.FAILING, NOW + 5)
    assert first.id == again.id


def test_different_changes_are_different_events() -> None:
    """Another warning, another time of failing, another webhook, another generation: each is told."""
    base = failing(24, 7)
    longest = replace(base, tenant="t" * 64, webhook="w" * 64)
    states = [base, replace(base, warned_h=72), replace(base, failing_since_ms=1), replace(base, webhook="wh_2")]
    states += [replace(base, generation=4), replace(base, tenant="other"), longest]
    states += [replace(base, failing_since_ms=None, time_ms=2), replace(base, failing_since_ms=None, time_ms=3)]
    events = [operational_event(state, change, NOW) for state in states for change in Change]
    assert len({event.id for event in events}) == len(events)
    assert all(fault(event) is None for event in events)
