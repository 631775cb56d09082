from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.deliver import Dead, Done, Next, Outcome, Retry, Skipped, Verdict
from pipeline.profiles import PROFILES, Profile, retry_after_ms
from tests.profiles.makers import LADDER, NOW_MS, answer, failure

S, M, H = 1000, 60_000, 3_600_000
STANDARD_WAITS = [5 * S, 5 * M, 30 * M, 2 * H, 5 * H, 10 * H, 14 * H, 20 * H, 24 * H]
LIKE_STANDARD = ["standard", "qase", "monithq", "bugbounty"]
NETWORK = [Verdict.TIMEOUT, Verdict.DNS, Verdict.CONNECT, Verdict.TLS, Verdict.PROTOCOL, Verdict.PROXY]


def _after(profile: Profile, outcome: Outcome, attempt: int, jitter: float = 0.0) -> Next:
    verdict = profile.judge(outcome)
    return profile.next_step(verdict, outcome, attempt, jitter=jitter, now_ms=NOW_MS, ladder=LADDER)


def _waits(profile: Profile, outcome: Outcome) -> list[int]:
    """The waits of a delivery whose every attempt ends so, until it is dead."""
    waits: list[int] = []
    while isinstance(step := _after(profile, outcome, len(waits) + 1), Retry):
        waits.append(step.wait_ms)
    assert step == Dead("exhausted")
    return waits


def _asked(name: str, *values: str, status: int = 503, attempt: int = 1) -> int:
    step = _after(PROFILES[name], answer(status, *(("Retry-After", value) for value in values)), attempt)
    assert isinstance(step, Retry)
    return step.wait_ms


@pytest.mark.parametrize("name", LIKE_STANDARD)
@pytest.mark.parametrize("outcome", [answer(500), answer(404), failure(Verdict.TIMEOUT), failure(Verdict.DNS)])
def test_ten_attempts_over_75_6_hours(name: str, outcome: Outcome) -> None:
    """Standard's schedule: waits of 5s 5m 30m 2h 5h 10h 14h 20h 24h, whatever the failure, then a dead letter."""
    waits = _waits(PROFILES[name], outcome)
    assert waits == STANDARD_WAITS
    assert PROFILES[name].retry.attempts == 10
    assert sum(waits) / H == pytest.approx(75.6, abs=0.05)


@pytest.mark.parametrize("verdict", NETWORK)
def test_monitorqa_tries_again_after_network_errors_and_timeouts(verdict: Verdict) -> None:
    """Five more attempts where no answer came, after 5s 5m 30m 2h 5h without jitter."""
    assert _waits(PROFILES["monitorqa"], failure(verdict)) == STANDARD_WAITS[:5]
    assert _after(PROFILES["monitorqa"], failure(verdict), 2, jitter=0.99) == Retry(5 * M)


@pytest.mark.parametrize("status", [300, 302, 400, 404, 410, 429, 500, 503])
def test_monitorqa_takes_any_other_answer_for_final(status: int) -> None:
    """Whatever is not 2xx ends the delivery as rejected at once, also on a later attempt and with a `Retry-After`."""
    outcome = answer(status, ("retry-after", "5"))
    assert PROFILES["monitorqa"].judge(outcome) is Verdict.REJECTED
    assert [_after(PROFILES["monitorqa"], outcome, attempt) for attempt in (1, 5)] == [Dead("rejected")] * 2


def test_monitorqa_takes_an_answer_that_is_too_long_for_an_answer() -> None:
    """An answer whose head is too long to be read is no network error: it is final too."""
    assert _after(PROFILES["monitorqa"], failure(Verdict.TOO_LARGE), 1) == Dead("rejected")


@pytest.mark.parametrize("outcome", [answer(500), answer(201), failure(Verdict.TIMEOUT), answer(410), answer(429)])
def test_inspectorio_tries_three_times_more_60_s_apart(outcome: Outcome) -> None:
    """Always 60 s, without jitter; 410 and 429 are failures like any other."""
    assert _waits(PROFILES["inspectorio"], outcome) == [60 * S] * 3
    assert _after(PROFILES["inspectorio"], outcome, 1, jitter=0.99) == Retry(60 * S)


def test_inspectorio_does_not_heed_retry_after() -> None:
    """An endpoint that asks for an hour gets the product's 60 s."""
    assert _asked("inspectorio", "3600") == 60 * S


@pytest.mark.parametrize("name", LIKE_STANDARD)
def test_410_ends_the_delivery(name: str) -> None:
    """Gone means gone, on the first attempt too."""
    assert PROFILES[name].judge(answer(410)) is Verdict.GONE
    assert _after(PROFILES[name], answer(410), 1) == Dead("gone")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_ends_that_all_products_share(profile: Profile) -> None:
    """Delivered is done, a blocked address is never tried again, and what was skipped stays skipped."""
    assert _after(profile, answer(200), 1) == Done()
    assert _after(profile, failure(Verdict.BLOCKED), 1) == Dead("blocked")
    assert _after(profile, failure(Verdict.SKIPPED), 1) == Skipped()


@given(jitter=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, 9))
def test_jitter_lengthens_a_wait_by_up_to_a_fifth(jitter: float, attempt: int) -> None:
    """The wait before rounding lies between the rule's and 1.2 times that; rounding never makes it shorter."""
    own = STANDARD_WAITS[attempt - 1]
    rule = PROFILES["standard"].retry
    wait = rule.wait_ms(Verdict.TIMEOUT, failure(Verdict.TIMEOUT), attempt, jitter, NOW_MS)
    step = _after(PROFILES["standard"], failure(Verdict.TIMEOUT), attempt, jitter)
    assert own <= wait <= own * 1.2
    assert isinstance(step, Retry)
    assert step.wait_ms >= wait
    assert LADDER.round_up(step.wait_ms) == step.wait_ms


@pytest.mark.parametrize(
    ("values", "wait"),
    [
        (["120"], 120 * S),
        (["0"], 5 * S),
        (["-5"], 5 * S),
        (["soon"], 5 * S),
        ([""], 5 * S),
        (["1.5"], 5 * S),
        (["٣٠٠"], 5 * S),
        (["1000000000000"], 24 * H),
        (["9" * 5000], 24 * H),
        (["000000000000120"], 120 * S),
        (["60", "180"], 180 * S),
        (["180", "60"], 180 * S),
        (["180", "nonsense"], 180 * S),
        ([formatdate((NOW_MS + 600 * S) / 1000, usegmt=True)], 600 * S),
        ([formatdate((NOW_MS - 600 * S) / 1000, usegmt=True)], 5 * S),
        (["Fri, 31 Dec 9999 23:59:59 GMT"], 24 * H),
        (["Wednesday, 05-Nov-25 10:35:00 GMT"], 5 * M),
        (["Wed Nov  5 10:35:00 2025"], 5 * M),
        (["Wed, 05 Nov 99999 10:35:00 GMT"], 5 * S),
    ],
)
def test_retry_after_lies_between_the_base_wait_and_a_day(values: list[str], wait: int) -> None:
    """Seconds or a date, one or two of them; nonsense, negative and past ask for nothing; never more than 24 h."""
    assert _asked("standard", *values) == wait


@pytest.mark.parametrize("name", LIKE_STANDARD)
def test_after_429_at_least_a_minute_passes(name: str) -> None:
    """60 s instead of 5 s, more where the endpoint asks for it, the schedule's wait where that is longer."""
    assert PROFILES[name].judge(answer(429)) is Verdict.RATE_LIMITED
    assert _asked(name, status=429) == 60 * S
    assert _asked(name, "10", status=429) == 60 * S
    assert _asked(name, "180", status=429) == 180 * S
    assert _asked(name, status=429, attempt=4) == 2 * H


@given(st.lists(st.text(max_size=40), max_size=3))
def test_no_retry_after_is_too_strange(values: list[str]) -> None:
    """Any text is either a wait or nothing; none raises."""
    assert retry_after_ms(tuple(("Retry-After", value) for value in values), NOW_MS) >= 0
