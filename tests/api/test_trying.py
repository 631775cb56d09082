"""Tests of a configuration while they run: tries, pauses, what is told, and how many at a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from pipeline.api import trying
from pipeline.api.problems import Refusal
from pipeline.api.trying import AT_ONCE, PER_TENANT, Doing, Trial, Trials, Tried
from pipeline.flow.deliver import Outcome, OutgoingRequest, Verdict

OK, BROKEN = Outcome(None, 200, (), b"", 1), Outcome(None, 500, (), b"", 1)
BLOCKED = Outcome(Verdict.BLOCKED, None, (), b"", 0)


class Scripted:
    """A client whose requests end like this, in turn; where the script is over they never do."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.asked = asyncio.Semaphore(0)

    async def send(self, _request: OutgoingRequest) -> Outcome:
        """The next one."""
        self.asked.release()
        if not self.outcomes:
            await asyncio.Event().wait()
        return self.outcomes.pop(0)


class Pauses(list[float]):
    """Pauses that last no time."""

    async def __call__(self, seconds: float) -> None:
        """Note it."""
        self.append(seconds)
        await asyncio.sleep(0)


def trial(tenant: str = "acme") -> Trial[list[Tried]]:
    async def end(tried: Sequence[Tried]) -> list[Tried]:
        return list(tried)

    def judge(outcome: Outcome) -> Verdict:
        return outcome.failure or (Verdict.DELIVERED if outcome.status == 200 else Verdict.REJECTED)

    return Trial(tenant, lambda ms: OutgoingRequest("https://x.example/", (("at", str(ms)),), b"", 1), judge, end)


def trials(client: Scripted, pauses: Pauses | None = None) -> Trials:
    clock = itertools.count(1)
    return Trials(client, lambda: next(clock), pauses if pauses is not None else Pauses())


@pytest.mark.parametrize(
    ("outcomes", "made", "waited"),
    [
        ((OK,), 1, []),
        ((BROKEN, OK), 2, [2.0]),
        ((BROKEN, BROKEN, OK), 3, [2.0, 4.0]),
        ((BROKEN, BROKEN, BROKEN, OK), 3, [2.0, 4.0]),
    ],
)
async def test_it_is_tried_up_to_three_times(outcomes: tuple[Outcome, ...], made: int, waited: list[float]) -> None:
    """The first success ends it, or the third failure; before the second try it waits 2 s, before the third 4 s."""
    pauses = Pauses()
    tried = await trials(Scripted(*outcomes), pauses).begin(trial()).result()
    assert [one.number for one in tried] == list(range(1, made + 1))
    assert [one.request.headers for one in tried] == [(("at", str(n)),) for n in range(1, made + 1)]
    assert pauses == waited


async def test_what_a_repeat_cannot_change_is_not_repeated() -> None:
    """What the guard blocks is tried once, and told after a whole second, however soon it was known."""
    pauses = Pauses()
    tried = await trials(Scripted(BLOCKED, OK), pauses).begin(trial()).result()
    assert [one.verdict for one in tried] == [Verdict.BLOCKED]
    assert [round(seconds) for seconds in pauses] == [1]


async def test_each_step_is_told() -> None:
    """What is done and what came of it, in their order."""
    running = trials(Scripted(BROKEN, OK)).begin(trial())
    told = [(step.number, step.what if isinstance(step, Doing) else step.verdict) async for step in running.steps()]
    assert told == [(1, "sending"), (1, "rejected"), (2, "waiting"), (2, "sending"), (2, "delivered")]


async def test_a_long_step_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an endpoint keeps us waiting it is told again and again, with the time that it has taken."""
    monkeypatch.setattr(trying, "BEAT_S", 0.01)
    running = trials(Scripted()).begin(trial())
    told: list[float] = []
    async for step in running.steps():
        assert isinstance(step, Doing)
        told.append(step.seconds)
        if len(told) == 3:
            break
    running.task.cancel()
    assert told[0] == 0 < told[1] < told[2]


async def test_few_run_at_a_time() -> None:
    """A tenant has two at a time, the process sixteen; one more is refused (429) until one has ended."""
    client = Scripted()
    made = trials(client)
    running = [made.begin(trial(f"t{n // PER_TENANT}")) for n in range(AT_ONCE - 1)]
    with pytest.raises(Refusal) as tenants_own:
        made.begin(trial("t0"))
    running.append(made.begin(trial("other")))
    with pytest.raises(Refusal) as everyones:
        made.begin(trial("another"))
    assert [refused.value.status for refused in (tenants_own, everyones)] == [429, 429]
    assert everyones.value.headers == {"Retry-After": "10"}
    running[0].task.cancel()
    await asyncio.wait({running[0].task})
    made.begin(trial("t0"))
    await made.aclose()
    assert made._running == {}


async def test_the_end_of_the_process_ends_what_runs() -> None:
    """Nothing is left running that would send through a closed client."""
    client = Scripted()
    made = trials(client)
    running = made.begin(trial())
    await client.asked.acquire()
    await made.aclose()
    assert running.task.cancelled()
    assert [step async for step in running.steps()] == [Doing(1, "sending")]
