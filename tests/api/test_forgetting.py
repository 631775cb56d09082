"""`cancels` does not grow for ever."""

from __future__ import annotations

import pytest

from pipeline.api.log.forgetting import OLD_MS, YOUNG_MS, forget
from pipeline.flow.deliver import Delivery
from tests.api.conftest import Api
from tests.api.logged import Logged, logged
from tests.api.parts import Parts


@pytest.fixture
async def log(api: Api, parts: Parts) -> Logged:
    return await logged(api, parts)


async def _cancelled(log: Logged) -> Delivery:
    held = await log.delivery(await log.event())
    await log.api.post(f"/v1/tenants/acme/deliveries/{held.id}/cancel", status=202)
    return held


async def test_what_has_ended_is_forgotten(log: Logged) -> None:
    """Not at once, as a copy may still come; an hour later it is, and who did it is written down."""
    held = await _cancelled(log)
    await log.attempt(held, "cancelled")
    assert await forget(log.parts.deps) == 0
    log.parts.clock[0] += YOUNG_MS + 1_000
    assert await forget(log.parts.deps) == 1
    assert log.parts.deps.cancels.of(held.id) is None
    assert (log.parts.control.audits[-1].key, log.parts.control.audits[-1].tenant) == ("pipeline", "acme")
    assert await forget(log.parts.deps) == 0


async def test_what_waits_is_not_forgotten(log: Logged) -> None:
    """A delivery that has not come back yet stays cancelled; after a month nothing can come back."""
    held = await _cancelled(log)
    log.parts.clock[0] += YOUNG_MS + 1_000
    assert await forget(log.parts.deps) == 0
    log.parts.clock[0] += OLD_MS
    assert await forget(log.parts.deps) == 1
    assert log.parts.deps.cancels.of(held.id) is None


async def test_an_older_round_is_forgotten(log: Logged) -> None:
    """When the log shows a later round of the delivery, the one that was cancelled is over."""
    held = await _cancelled(log)
    await log.attempt(held, "retrying", "0A")
    log.parts.clock[0] += YOUNG_MS + 1_000
    assert await forget(log.parts.deps) == 1
