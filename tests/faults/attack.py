"""Carries the plan out, one fault after the other, and watches in the ledger how the system gets over it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.kafka.feed import SESSION_MS
from tests.faults.ledger import Kind as Tenants
from tests.faults.ledger import Ledger, Tail
from tests.faults.log import BROKER, Log, now_ms
from tests.faults.plan import Fault, Kind, stages
from tests.faults.system import Say, System
from tests.faults.topics import lagging

_LATE_MS: Mapping[Tenants, int] = {Tenants.QUICK: 1_000, Tenants.SLOW: 1_000, Tenants.FLAKY: 5_000}
"""Full speed is back when nothing that was acknowledged longer ago is still to be received."""
_LOOK_S = 0.1
_LEAST_S = 2.0
"""A dent shows in the ledger only after a while."""
_POINT_S = 15.0
"""A worker that has not come to its point by then is killed where it is."""
_JOIN_S = 30.0
_LAST_S = 1.0
_QUIET_S = 5.0
_SETTLE_S = 120.0


@dataclass(slots=True)
class Books:
    """The ledger as it grows on disk."""

    folder: Path
    ledger: Ledger
    tails: dict[Path, Tail] = field(default_factory=dict)

    def read_on(self) -> None:
        """What was written since the last look; a receiver's line is judged with all that was produced before it."""
        received = [line for path in self._files("received") for line in self._tail(path).lines()]
        for path in self._files("produced"):
            for line in self._tail(path).lines():
                self.ledger.produce(line)
        for line in received:
            self.ledger.receive(line)

    def late(self) -> bool:
        """Whether something is overdue."""
        now = now_ms()
        oldest = ((self.ledger.oldest(kind), limit) for kind, limit in _LATE_MS.items())
        return any(at is not None and now - at > limit for at, limit in oldest)

    def _files(self, side: str) -> list[Path]:
        return sorted(self.folder.glob(f"ledger/{side}-*"))

    def _tail(self, path: Path) -> Tail:
        return self.tails.setdefault(path, Tail(path))


@dataclass(slots=True)
class Attack:
    """Does to the system what the plan says."""

    system: System
    books: Books
    log: Log
    say: Say
    chance: random.Random
    most_s: float = 90.0
    """How long to wait for full speed after a fault. Where something is lost it never comes."""
    outages: set[asyncio.Task[None]] = field(default_factory=set)

    async def carry_out(self, fault: Fault, left: int) -> None:
        """One fault, and then wait until the system is over it, unless the next is to come at once."""
        await asyncio.sleep(self.chance.uniform(0.0, 0.7))
        since = await self._do(fault)
        target = BROKER if fault.kind in {Kind.BROKER, Kind.FREEZE} else fault.name
        recover_s = None if fault.at_once else await self._recovered(since)
        if fault.kind is Kind.KILL and fault.pause_s:
            await asyncio.sleep(max(fault.pause_s - (now_ms() - since) / 1000, 0))
            self.system.workers[fault.name].start()
        counted = recover_s if fault.kills else None
        self.log.write("done", kind=fault.kind, target=target, point=fault.point, recover_s=counted)
        self._tell(fault, target, recover_s, left)

    async def calm(self, seconds: float) -> None:
        """Do nothing for a while, once everything is at full speed."""
        await self._recovered(now_ms())
        begun = now_ms()
        self.say(f"calm for {seconds:g} s")
        await asyncio.sleep(seconds)
        self.log.write("calm", now_ms(), since=begun)
        await asyncio.sleep(_LAST_S)  # what was produced last must have arrived before the next fault

    async def settle(self) -> dict[str, int]:
        """Wait until all that was acknowledged is received and every stage has finished; what it has not finished."""
        await asyncio.gather(*self.outages)
        until, seen, quiet_since = time.monotonic() + _SETTLE_S, -1, time.monotonic()
        while True:
            self.books.read_on()
            behind = await asyncio.to_thread(lagging, self.system.settings.bootstrap_servers)
            count = sum(map(len, self.books.ledger.arrivals.values()))
            if count != seen or behind:
                seen, quiet_since = count, time.monotonic()
            if time.monotonic() - quiet_since > _QUIET_S or time.monotonic() > until:
                return behind
            owed = len(self.books.ledger.lost) + len(self.books.ledger.not_replayed)
            self.say(f"settling: {owed} to be received, {sum(behind.values())} records unfinished")
            await asyncio.sleep(1.0)

    async def _do(self, fault: Fault) -> int:
        """Carry the fault out; when it was, in milliseconds."""
        match fault.kind:
            case Kind.KILL | Kind.POINT:
                return await self._kill(fault)
            case Kind.BROKER | Kind.FREEZE:
                return await self._kill_broker(fault)
            case Kind.DRAIN:
                return await self._drain(fault)
            case Kind.STOP:
                return await self._stop(fault)
            case Kind.STORM:
                return await self._storm()
            case Kind.REGISTRY:
                os.kill(self.system.cluster.pids["registry"], signal.SIGKILL)
                self.log.write("registry")
            case Kind.OUTAGE:
                self.outages.add(asyncio.create_task(self._outage(fault.pause_s)))
        return now_ms()

    async def _kill(self, fault: Fault) -> int:
        worker = self.system.workers[fault.name]
        self.log.write("kill", at := now_ms(), target=fault.name)
        await worker.kill()
        if fault.kind is Kind.POINT:
            worker.start(fault.point)
            reached = await worker.dies(_POINT_S)
            self.log.write("kill", at := now_ms(), target=fault.name, point=fault.point, reached=reached)
            await worker.kill()
        if not fault.pause_s:
            worker.start()
        return at

    async def _kill_broker(self, fault: Fault) -> int:
        cluster = self.system.cluster
        if fault.kind is Kind.FREEZE:
            self.log.write("freeze", target=BROKER)
            os.kill(cluster.pids["kafka"], signal.SIGSTOP)
            await asyncio.sleep(fault.pause_s)
        self.log.write("kill", at := now_ms(), target=BROKER, frozen=fault.kind is Kind.FREEZE)
        await cluster.kill_broker()
        await asyncio.sleep(0 if fault.kind is Kind.FREEZE else fault.pause_s)
        await cluster.start_broker()
        self.log.write("back", target=BROKER)
        return at

    async def _drain(self, fault: Fault) -> int:
        worker = self.system.workers[fault.name]
        code = await worker.drain()
        self.log.write("drain", at := now_ms(), target=fault.name, code=code)
        worker.start()
        return at

    async def _stop(self, fault: Fault) -> int:
        worker = self.system.workers[fault.name]
        self.log.write("stop", at := now_ms(), target=fault.name, lasts_s=fault.pause_s)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(max(fault.pause_s, SESSION_MS / 1000))
        worker.signal(signal.SIGCONT)
        return at

    async def _storm(self) -> int:
        """One more of each stage, and fewer again, twice."""
        at = now_ms()
        self.log.write("storm", at)
        for _ in range(2):
            more = [self.system.more(f"{role}-9") for role in stages(self.system.given.roles)]
            for worker in more:
                worker.start()
            for worker in more:
                await worker.joins(_JOIN_S)
            for worker in more:
                if code := await worker.drain():
                    self.log.write("ended", target=worker.name, code=code)
        return at

    async def _outage(self, seconds: float) -> None:
        receiver = self.system.receivers["outage"]
        self.log.write("outage", target="receiver", lasts_s=seconds)
        receiver.signal(signal.SIGUSR1)
        await asyncio.sleep(seconds)
        receiver.signal(signal.SIGUSR2)

    async def _recovered(self, since: int) -> float:
        """Wait until nothing is overdue; how many seconds after `since` that was."""
        last = since
        while (now := now_ms()) - since < self.most_s * 1000:
            await asyncio.sleep(_LOOK_S)
            self.books.read_on()
            if self.books.late():
                last = now
            elif now - max(last, since + _LEAST_S * 1000 - _LOOK_S * 1000) > _LOOK_S * 1000:
                break
        return round((last - since) / 1000, 1)

    def _tell(self, fault: Fault, target: str, recover_s: float | None, left: int) -> None:
        what = f"{fault.kind} {target if fault.role or fault.kills else ''} {fault.point}".rstrip()
        back = "the next at once" if recover_s is None else f"back to full speed after {recover_s:.1f} s"
        self.say(f"{what}: {back}; {left} kills left")


def ended(log: Log, say: Say) -> Callable[[str, int], None]:
    """Who hears of workers that end by themselves."""

    def heard(name: str, code: int) -> None:
        log.write("ended", target=name, code=code)
        say(f"{name} ended by itself with {code}")

    return heard
