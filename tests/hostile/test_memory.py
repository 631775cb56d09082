"""All rows at once against one client process: what they can make it hold in memory."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
import trustme

from tests.hostile.crowd import Order, Result
from tests.hostile.rows import FLOODS, ROWS, Row
from tests.http.endpoints import answering, tls_for

pytestmark = pytest.mark.hostile

EACH = 6
DEADLINE_S = 2.0
OVER_S = 1.0
MOST_MB = 50
CLIENT, ANSWER = "pipeline.http.client", "pipeline.http.answer"


async def burst(
    rows: Iterable[Row], authority: trustme.CA, ca_file: Path, lifted: Mapping[str, list[str]] | None = None
) -> Result:
    """A client process sends `EACH` deliveries to every row at the same time."""
    async with AsyncExitStack() as stack:
        targets = [
            ((await stack.enter_async_context(row.serve(authority))).url(), len(row.body), row.redirects)
            for row in rows
        ]
        plain = await stack.enter_async_context(answering())
        secure = await stack.enter_async_context(answering(tls=tls_for(authority, "localhost")))
        neighbours = [plain.url(), secure.url(host="localhost")]
        order = Order(targets, neighbours, str(ca_file), EACH, DEADLINE_S, lifted or {})
        return await _run(order)


async def _run(order: Order) -> Result:
    program = [sys.executable, str(Path(__file__).with_name("crowd.py"))]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe, env=env)
    try:
        said, _ = await child.communicate(json.dumps(asdict(order)).encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0
    return Result(**json.loads(said))


async def test_all_at_once_stay_small(authority: trustme.CA, ca_file: Path) -> None:
    """Several of every kind at the same time end in time, take less than 50 MB, and cost no neighbour a delivery."""
    result = await burst(ROWS.values(), authority, ca_file)
    assert result.grown_mb < MOST_MB
    assert result.seconds < DEADLINE_S + OVER_S
    assert result.arrived == result.sent > 100


@pytest.mark.parametrize(
    ("rows", "lifted"),
    [
        (["endless body", "endless long body", "endless chunk"], {CLIENT: ["MAX_READ", "MAX_KEPT"]}),
        (["endless header", "endless status"], {ANSWER: ["MAX_HEAD", "_MAX_LINE"]}),
        (["header flood"], {ANSWER: ["MAX_HEAD", "_MAX_HEADERS_READ"]}),
    ],
    ids=["body", "line", "headers"],
)
async def test_the_measure_sees_a_missing_limit(
    rows: list[str], lifted: dict[str, list[str]], authority: trustme.CA, ca_file: Path
) -> None:
    """Without its limits the same client grows beyond the bound, so the bound above says something."""
    result = await burst([FLOODS[name] for name in rows], authority, ca_file, lifted)
    assert result.grown_mb > MOST_MB
