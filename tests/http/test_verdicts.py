"""The closed list of verdicts: each one happens, and has its place in the records and the metrics."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.flow.deliver import Answers, Attempt, Done, Outcome, Verdict
from pipeline.http.guard import EgressPolicy
from pipeline.http.metrics import AttemptMeter
from pipeline.profiles import PROFILES
from tests.hostile import rows
from tests.hostile.rows import ROWS
from tests.http.conftest import MakeClient
from tests.http.endpoints import answering, closed_port, post

NAME = "hooks.customer.com"
SCHEMA = Path(__file__).parents[2] / "schemas" / "attempt.avsc"
Made = Callable[[MakeClient, Path, trustme.CA], Awaitable[Outcome]]


async def public(_host: str) -> Sequence[str]:
    """Any public address; nothing connects to it here."""
    return ["93.184.216.34"]


def of_row(name: str) -> Made:
    """What the hostile receiver of this row comes to."""

    async def made(make_client: MakeClient, ca_file: Path, authority: trustme.CA) -> Outcome:
        row = ROWS[name]
        async with row.serve(authority) as endpoint:
            request = post(endpoint.url(), 0.3, body=row.body, max_redirects=row.redirects)
            return await make_client(ca_file=ca_file).send(request)

    return made


async def delivered(make_client: MakeClient, _ca_file: Path, _authority: trustme.CA) -> Outcome:
    async with answering() as endpoint:
        return await make_client().send(post(endpoint.url()))


async def no_name(make_client: MakeClient, _ca_file: Path, _authority: trustme.CA) -> Outcome:
    async def lookup(_host: str) -> Sequence[str]:
        return []

    return await make_client(lookup=lookup).send(post(f"https://{NAME}/"))


async def blocked(make_client: MakeClient, _ca_file: Path, _authority: trustme.CA) -> Outcome:
    return await make_client(EgressPolicy()).send(post("https://127.0.0.1/"))


async def no_proxy(make_client: MakeClient, _ca_file: Path, _authority: trustme.CA) -> Outcome:
    client = make_client(proxy=f"http://127.0.0.1:{closed_port()}", lookup=public)
    return await client.send(post(f"https://{NAME}/"))


MADE: dict[Verdict, Made] = {
    Verdict.DELIVERED: delivered,
    Verdict.REJECTED: of_row("Retry-After, negative"),
    Verdict.GONE: of_row("410"),
    Verdict.RATE_LIMITED: of_row("429"),
    Verdict.TIMEOUT: of_row("never answers"),
    Verdict.DNS: no_name,
    Verdict.CONNECT: of_row("close at once"),
    Verdict.TLS: of_row("expired certificate"),
    Verdict.REDIRECT: of_row("redirect to itself"),
    Verdict.BLOCKED: blocked,
    Verdict.TOO_LARGE: of_row("endless header"),
    Verdict.PROTOCOL: of_row("garbage"),
    Verdict.PROXY: no_proxy,
}


def test_the_list_is_closed() -> None:
    """The verdicts are these; `skipped` alone is the sender's own word, which makes no request."""
    assert {*MADE, Verdict.SKIPPED} == set(Verdict)
    assert {row.verdict for row in rows.ROWS.values()} < set(Verdict)


@pytest.mark.parametrize("verdict", MADE)
async def test_each_verdict_happens(
    verdict: Verdict, make_client: MakeClient, ca_file: Path, authority: trustme.CA
) -> None:
    """The real client comes to it, and the product's rule gives it this name."""
    assert PROFILES["standard"].judge(await MADE[verdict](make_client, ca_file, authority)) is verdict


def test_each_verdict_has_its_place_in_the_records() -> None:
    """The schema of attempts has these verdicts and no others, in this order."""
    (field,) = (field for field in json.loads(SCHEMA.read_text())["fields"] if field["name"] == "verdict")
    assert field["type"]["symbols"] == [verdict.value for verdict in Verdict]


@pytest.mark.parametrize("verdict", Verdict)
def test_each_verdict_is_counted(verdict: Verdict) -> None:
    """The metrics have every verdict from the start, at 0, and count it under its own label."""
    registry = CollectorRegistry()
    meter = AttemptMeter(registry)
    assert all(f'pipeline_attempts_total{{verdict="{one}"}} 0.0' in _told(registry) for one in Verdict)
    meter(_attempt(verdict))
    counted = [line for line in _told(registry) if line.startswith("pipeline_attempts_total{") and line.endswith("1.0")]
    assert counted == [f'pipeline_attempts_total{{verdict="{verdict.value}"}} 1.0']


def _told(registry: CollectorRegistry) -> list[str]:
    return generate_latest(registry).decode().splitlines()


def _attempt(verdict: Verdict) -> Attempt:
    where = Answers(0, 0)
    return Attempt("msg_1", "", 0, "e", "t", "w", "x", 1, 0, 5, verdict, None, (), (), b"", Done(), where)
