"""One run: start everything, carry the plan out, let it settle, add up."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.attack import Attack, Books, ended
from tests.faults.flight import flight
from tests.faults.ledger import Ledger
from tests.faults.log import Log
from tests.faults.plan import faults
from tests.faults.replays import Replays
from tests.faults.system import Given, Say, System, hooks, running
from tests.faults.topics import dead, tries

LOG = "faults.jsonl"
_LONG = 20
_CALM_S, _LONG_CALM_S, _CONTROL_CALM_S = 8.0, 30.0, 2.0
_CONTROL_MOST_S = 5.0


async def run(folder: Path, given: Given, say: Say) -> dict[str, Any]:
    """Carry out what is left of the plan; the figures of the whole run."""
    log = Log(folder / LOG)
    plan, done = faults(given.seed, given.kills, given.control, given.roles), log.done
    given.session += 1
    given.write(folder)
    books = Books(folder, Ledger(hooks()))
    books.read_on()
    if given.session > 1:
        log.write("interrupted", _last_ms(books.ledger))
    async with running(folder, given, ended(log, say), say) as system:
        attack = Attack(system, books, log, say, random.Random(given.seed + done))  # noqa: S311 - when, no secret
        attack.most_s = _CONTROL_MOST_S if given.control else attack.most_s
        replays = Replays(system, books, log, say, given.rate) if given.during else None
        system.produce()
        calm_s = _CONTROL_CALM_S if given.control else _LONG_CALM_S if given.kills >= _LONG else _CALM_S
        await attack.calm(calm_s)
        for number, fault in enumerate(plan[done:], start=done + 1):
            if replays is not None:
                await replays.under_way()
            await attack.carry_out(fault, sum(one.kills for one in plan[number:]))
        await attack.calm(calm_s)
        if replays is not None:
            say("waiting for the last replay")
            await replays.over()
        say("the producers stop")
        await system.silence()
        stuck = await attack.settle()
        return await _figures(system, books.ledger, log, stuck)


def failed(figures: dict[str, Any]) -> bool:
    """Whether the promise was broken."""
    wrong = figures["lost"] or figures["phantom"] or figures["mismatched"] or figures["stuck"]
    return bool(wrong) or figures["duplicates"] > figures["in_flight"]


async def _figures(system: System, ledger: Ledger, log: Log, stuck: dict[str, int]) -> dict[str, Any]:
    bootstrap = system.settings.bootstrap_servers
    written = await asyncio.to_thread(tries, bootstrap)
    duplicates, latencies = ledger.duplicates, ledger.latencies_ms(log.calm)
    given = system.given
    for owed in ledger.lost:
        log.write("lost", id=owed[0], webhook=owed[1])
    for owed in ledger.not_replayed:
        log.write("not replayed", id=owed[0], webhook=owed[1])
    for name, count in stuck.items():
        log.write("stuck", partition=name, records=count)
    return {
        "acked": ledger.owed,
        "received": len(ledger.received),
        "lost": len(ledger.lost) + len(ledger.not_replayed),
        "replays": len(ledger.replays),
        "replayed": sum(map(len, ledger.replayed.values())),
        "duplicates": sum(duplicates.values()),
        **asdict(flight(ledger.arrivals, written, duplicates, log.ends)),
        "phantom": ledger.phantom,
        "mismatched": ledger.mismatched,
        "stuck": len(stuck),
        "dead_letters": await asyncio.to_thread(dead, bootstrap),
        "recover_s": log.worst(broker=False),
        "recover_broker_s": log.worst(broker=True),
        "p99_ms": latencies[len(latencies) * 99 // 100] if latencies else None,
        "seed": given.seed,
        "kills": sum(fault.kills for fault in faults(given.seed, given.kills, given.control, given.roles)),
        "control": given.control,
        "during": given.during,
        "faults": log.counts(),
        "log": str(log.path),
    }


def _last_ms(ledger: Ledger) -> int:
    """When the interrupted session was last heard of."""
    arrived = max((same[-1].at_ms for same in ledger.arrivals.values()), default=0)
    return max(arrived, max((made.at_ms for made in ledger.produced.values()), default=0))
