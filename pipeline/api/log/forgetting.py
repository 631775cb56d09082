"""Forgetting cancellings that have done their work, so that `cancels` does not grow for ever."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NoReturn

import structlog

from pipeline.api.deps import Deps
from pipeline.api.roles import Principal
from pipeline.errors import Unreachable
from pipeline.flow.access import Role
from pipeline.flow.cancels import Cancel
from pipeline.flow.history import ENDED
from pipeline.kafka.changes import Forgotten
from pipeline.kafka.topics import CANCELS

_HOUR_MS = 3_600_000
YOUNG_MS = _HOUR_MS
"""A cancelling stays so long at least: a copy of its delivery may still come."""

OLD_MS = 30 * 24 * _HOUR_MS
"""After so long it goes, whatever the log says: no delivery waits longer than what was attempted of it is kept."""

_EVERY_S = 600.0
_WHO = Principal("pipeline", Role.PLATFORM_ADMIN, operation="forgetCancels")
_log = structlog.get_logger()


async def forgetting(deps: Deps) -> NoReturn:
    """Look every ten minutes, until cancelled."""
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            if count := await forget(deps):
                _log.info("cancellings forgotten", count=count)
        except Unreachable as error:
            _log.warning("cancellings are not forgotten", reason=str(error))


async def forget(deps: Deps) -> int:
    """Remove the cancellings of rounds that have ended; how many. Raises `Unreachable`."""
    count = 0
    for tenant, done in (await _done(deps)).items():
        async with deps.control.hold(tenant):  # nobody cancels anew meanwhile
            still = [one.delivery for one in done if deps.cancels.of(one.delivery) == one]
            if still:
                removed = [Forgotten(CANCELS, delivery) for delivery in still]
                await deps.write(_WHO, tenant, CANCELS, *removed, detail=f"{len(still)} that have ended")
        count += len(still)
    return count


async def _done(deps: Deps) -> Mapping[str, Sequence[Cancel]]:
    """Those that have done their work, by their tenants."""
    done, now = defaultdict(list), deps.clock()
    for cancel in list(deps.cancels.all()):
        age_ms = now - cancel.time_ms
        if age_ms > OLD_MS or (age_ms > YOUNG_MS and await _ended(deps, cancel)):
            done[cancel.tenant].append(cancel)
    return done


async def _ended(deps: Deps, cancel: Cancel) -> bool:
    row = await deps.log.ask(lambda log: log.delivery(cancel.tenant, cancel.delivery))
    return row is not None and (row.round > cancel.round or (row.round == cancel.round and row.status in ENDED))
