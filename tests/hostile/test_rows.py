"""Each row is bounded by the delivery's deadline, gets its verdict, and harms no neighbour."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import trustme

from pipeline.flow.deliver import Outcome
from pipeline.http.client import DeliveryClient
from pipeline.profiles import PROFILES
from tests.hostile.rows import ROWS, Row
from tests.http.conftest import MakeClient
from tests.http.endpoints import Endpoint, answering, post

pytestmark = pytest.mark.hostile

DEADLINE_S = 0.5
OVER_S = 1.0
NEIGHBOUR_S = 0.5


async def send(client: DeliveryClient, endpoint: Endpoint, row: Row, deadline_s: float = DEADLINE_S) -> Outcome:
    """A delivery to the row's receiver, within its deadline."""
    started = time.monotonic()
    outcome = await client.send(post(endpoint.url(), deadline_s, body=row.body, max_redirects=row.redirects))
    assert time.monotonic() - started < deadline_s + OVER_S
    return outcome


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_misbehaviour_is_bounded(row: Row, authority: trustme.CA, ca_file: Path, make_client: MakeClient) -> None:
    """A misbehaving receiver costs one attempt its deadline at most, and the verdict says what happened.

    All of its neighbour's deliveries arrive meanwhile.
    """
    client = make_client(ca_file=ca_file)
    async with row.serve(authority) as endpoint, answering() as neighbour:
        outcome, *others = await asyncio.gather(
            send(client, endpoint, row), *(client.send(post(neighbour.url(), NEIGHBOUR_S)) for _ in range(3))
        )
        assert (PROFILES["standard"].judge(outcome), outcome.status) == (row.verdict, row.status)
        assert [other.status for other in others] == [200, 200, 200]
        assert (len(neighbour.requests), endpoint.connections <= 1) == (3, True)


@pytest.mark.parametrize(
    "row", [row for row in ROWS.values() if row.cut], ids=[n for n, row in ROWS.items() if row.cut]
)
async def test_what_is_known_ends_at_once(
    row: Row, authority: trustme.CA, ca_file: Path, make_client: MakeClient
) -> None:
    """Where more bytes cannot change the verdict, the attempt ends long before its deadline."""
    async with row.serve(authority) as endpoint:
        outcome = await send(make_client(ca_file=ca_file), endpoint, row, deadline_s=30)
    assert outcome.duration_ms < 2000
