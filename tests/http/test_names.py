"""Names that take long, at a real name server on the loopback: nobody else waits for them."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.flow.deliver import Verdict
from pipeline.http.guard import EgressPolicy
from tests.http.conftest import MakeClient
from tests.http.endpoints import answering, post
from tests.http.name_server import SILENT, Zone, name_server

pytestmark = pytest.mark.egress

MANY = 1_200
TOGETHER = 50
"""So many questions fit into a socket's buffer."""
SLOW = [f"hooks{number}.slow.com" for number in range(MANY)]
QUICK = [f"hooks{number}.quick.com" for number in range(20)]
LATE = "hooks.late.com"
HERE = (("A", "127.0.0.1"),)
ZONES = {**dict.fromkeys(SLOW, SILENT), **dict.fromkeys(QUICK, Zone([HERE])), LATE: Zone([HERE], after_s=1.2)}


async def test_names_that_hang_hold_up_nobody_else(make_client: MakeClient) -> None:
    """While a tenant's 1,200 names are waited for, another's are looked up and sent to as if there were none."""
    async with name_server(ZONES) as server, answering() as endpoint:
        policy = EgressPolicy.parse("127.0.0.0/8", https_required=False, ports=str(endpoint.port))
        client = make_client(policy, name_servers=server.address)
        hanging: list[asyncio.Task[object]] = []
        for start in range(0, MANY, TOGETHER):
            urls = [endpoint.url(host=name) for name in SLOW[start : start + TOGETHER]]
            hanging += [asyncio.create_task(client.send(post(url, deadline_s=15))) for url in urls]
            await server.until_asked(len(hanging), within_s=2)
        outcomes = [await client.send(post(endpoint.url(host=name))) for name in QUICK]
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert [outcome.status for outcome in outcomes] == [200] * len(QUICK)
    assert max(outcome.duration_ms for outcome in outcomes) < 500


async def test_a_name_that_hangs_is_given_up(make_client: MakeClient) -> None:
    """A look-up ends by itself long before the delivery's deadline, as verdict `dns`, and is asked for again later."""
    async with name_server(ZONES) as server:
        client = make_client(name_servers=server.address, lookup_deadline_s=0.2)
        outcomes = [await client.send(post(f"https://{SLOW[0]}/")) for _ in range(2)]
        assert [outcome.failure for outcome in outcomes] == [Verdict.DNS] * 2
        assert all(200 <= outcome.duration_ms < 1_200 for outcome in outcomes)
        assert len(server.asked) >= 4


async def test_a_name_that_takes_a_second_is_waited_for(make_client: MakeClient) -> None:
    """Also where the name server has told all others at once: it is the name's own servers that are slow."""
    async with name_server(ZONES) as server, answering() as endpoint:
        policy = EgressPolicy.parse("127.0.0.0/8", https_required=False, ports=str(endpoint.port))
        client = make_client(policy, name_servers=server.address)
        outcomes = [await client.send(post(endpoint.url(host=name))) for name in (*QUICK, LATE)]
    assert [outcome.status for outcome in outcomes] == [200] * len(outcomes)


async def test_one_name_is_asked_for_once(make_client: MakeClient) -> None:
    """A burst of deliveries to one name that hangs is one look-up: an endpoint costs no more of them than one."""
    async with name_server(ZONES) as server:
        client = make_client(name_servers=server.address, lookup_deadline_s=0.2)
        outcomes = await asyncio.gather(*(client.send(post(f"https://{SLOW[0]}/")) for _ in range(100)))
    assert {outcome.failure for outcome in outcomes} == {Verdict.DNS}
    assert len(server.asked) == len(set(server.asked)) == 2
