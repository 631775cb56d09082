"""What an answer asks for, over the wire: each product does with it what its own rule says."""

from __future__ import annotations

import pytest
import trustme

from pipeline.flow.deliver import Dead, Next, Retry, Verdict
from pipeline.http.client import DeliveryClient
from pipeline.profiles import PROFILES
from tests.hostile.rows import WAITS
from tests.http.endpoints import answering, post
from tests.profiles.makers import LADDER, NOW_MS

pytestmark = pytest.mark.hostile

S, H = 1000, 3_600_000
HEEDING = ("standard", "qase", "monithq", "bugbounty")
STEPS: dict[str, Next] = {
    "Retry-After of 10^12": Retry(24 * H),
    "Retry-After, negative": Retry(5 * S),
    "Retry-After, past": Retry(5 * S),
    "Retry-After, in the year 9999": Retry(24 * H),
    "Retry-After, two of them": Retry(180 * S),
    "429": Retry(60 * S),
    "429 and soon": Retry(60 * S),
    "410": Dead("gone"),
}


async def _step(name: str, row: str, client: DeliveryClient, authority: trustme.CA) -> tuple[Verdict, Next]:
    """The verdict of the first attempt, and what follows it."""
    profile = PROFILES[name]
    async with WAITS[row].serve(authority) as endpoint:
        outcome = await client.send(post(endpoint.url()))
    verdict = profile.judge(outcome)
    return verdict, profile.next_step(verdict, outcome, 1, jitter=0.0, now_ms=NOW_MS, ladder=LADDER)


def test_every_row_has_its_step() -> None:
    """No row is left out."""
    assert STEPS.keys() == WAITS.keys()


@pytest.mark.parametrize("name", HEEDING)
@pytest.mark.parametrize("row", STEPS)
async def test_who_heeds_it(name: str, row: str, client: DeliveryClient, authority: trustme.CA) -> None:
    """Between the base wait and a day, 60 s at least after 429, and 410 is the end."""
    assert await _step(name, row, client, authority) == (WAITS[row].verdict, STEPS[row])


@pytest.mark.parametrize("row", STEPS)
async def test_who_does_not(row: str, client: DeliveryClient, authority: trustme.CA) -> None:
    """For inspectorio all of it is a failure like any other; for monitorqa a refusal, which ends the delivery."""
    assert await _step("inspectorio", row, client, authority) == (Verdict.REJECTED, Retry(60 * S))
    assert await _step("monitorqa", row, client, authority) == (Verdict.REJECTED, Dead("rejected"))


async def test_a_date_to_come(client: DeliveryClient) -> None:
    """A date ten minutes after the answer's time is ten minutes."""
    date = b"Wed, 05 Nov 2025 10:40:00 GMT"
    answer = b"HTTP/1.1 503 Later\r\nRetry-After: " + date + b"\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as endpoint:
        outcome = await client.send(post(endpoint.url()))
    standard = PROFILES["standard"]
    at = NOW_MS - NOW_MS % 1000
    step = standard.next_step(Verdict.REJECTED, outcome, 1, jitter=0.0, now_ms=at, ladder=LADDER)
    assert step == Retry(600 * S)
