"""The ledger outside the system: what was promised and what arrived, kept by other processes than those under test.

Producers write `+ id tenant digest time` before they send and `= id time` when it is acknowledged; receivers write
`webhook-id tenant webhook id tenant-in-the-body digest status time replay first-id` before they answer. One line each,
tab-separated, in files that are only ever appended to; times are milliseconds of this machine's clock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

_FIELDS = 10
_ACCEPTED = range(200, 300)


class Kind(StrEnum):
    """How the receiver of a tenant behaves; the tenant's id begins with it."""

    QUICK = "quick"
    SLOW = "slow"
    """Answers after a second and a half, so that there is always something in flight."""
    FLAKY = "flaky"
    """Answers 503 to the first request of each delivery, so that the ladder is used."""
    OUTAGE = "outage"
    """Is not there for a while, now and then."""


class Produced(NamedTuple):
    """An event that a producer has attempted."""

    tenant: str
    digest: str
    at_ms: int


class Arrival(NamedTuple):
    """A request that a receiver has got, as it was written down."""

    webhook_id: str
    tenant: str
    webhook: str
    event: str
    body_tenant: str
    digest: str
    status: int
    at_ms: int
    replay: str = ""
    first: str = ""
    """The replay that it is of, and the event's first webhook-id there; empty for what is live."""

    @property
    def accepted(self) -> bool:
        """Whether the answer was to be 2xx."""
        return self.status in _ACCEPTED


Owed = tuple[str, str]
"""An event's id and a webhook's."""


def digest(data: bytes) -> str:
    """What both sides write down of an event's data."""
    return hashlib.sha256(data).hexdigest()[:32]


def append(path: Path) -> int:
    """A file to write lines to, each with one `os.write`: they are the kernel's when it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@dataclass(slots=True)
class Tail:
    """Reads the whole lines that were added to a file since the last look."""

    path: Path
    rest: bytes = b""
    at: int = 0

    def lines(self) -> list[list[str]]:
        """Each line's fields. A line that was cut by a death is left for ever."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.at)
            new = file.read()
        self.at += len(new)
        *whole, self.rest = (self.rest + new).split(b"\n")
        return [line.decode().split("\t") for line in whole]


@dataclass(slots=True)
class Ledger:
    """Both sides, added up. `hooks`: the webhooks of each tenant, all of which get every event of it."""

    hooks: Mapping[str, tuple[str, ...]]
    produced: dict[str, Produced] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, list[Arrival]] = field(default_factory=dict)
    received: dict[Owed, int] = field(default_factory=dict)
    waiting: dict[str, dict[Owed, int]] = field(default_factory=dict)
    """Acked and not received, by the tenant's kind, oldest first: when each was acked."""
    replays: dict[str, int] = field(default_factory=dict)
    """Each replay, in their order: when it was ordered. It is of what was acked until then, from the last one's on."""
    replayed: dict[str, set[Owed]] = field(default_factory=dict)
    """What has come of each replay."""

    def produce(self, line: list[str]) -> None:
        """One whole line of a producer."""
        match line:
            case ["+", event, tenant, hashed, at]:
                self.produced[event] = Produced(tenant, hashed, int(at))
            case ["=", event, at]:
                self.acked[event] = int(at)
                for owed in self._owed(event):
                    if owed not in self.received:
                        self.waiting.setdefault(self._kind(event), {})[owed] = int(at)
            case _:
                raise ValueError(f"no line of a producer: {line}")

    def receive(self, line: list[str]) -> None:
        """One whole line of a receiver; lines of producers that were written before it must be known."""
        if len(line) != _FIELDS:
            raise ValueError(f"no line of a receiver: {line}")
        webhook_id, tenant, webhook, event, body_tenant, hashed, status, at, *again = line
        arrival = Arrival(webhook_id, tenant, webhook, event, body_tenant, hashed, int(status), int(at), *again)
        self.arrivals.setdefault(arrival.webhook_id, []).append(arrival)
        owed = arrival.event, arrival.webhook
        if arrival.replay:
            if arrival.accepted and self._right(arrival):
                self.replayed.setdefault(arrival.replay, set()).add(owed)
        elif arrival.accepted and owed not in self.received and self._right(arrival):
            self.received[owed] = arrival.at_ms
            self.waiting.get(arrival.tenant.partition("-")[0], {}).pop(owed, None)

    @property
    def owed(self) -> int:
        """How many deliveries the acknowledged events promise."""
        return sum(len(self._owed(event)) for event in self.acked)

    @property
    def lost(self) -> list[Owed]:
        """What was acknowledged and has not been received."""
        return [owed for kind in self.waiting.values() for owed in kind]

    @property
    def not_replayed(self) -> list[Owed]:
        """What was acknowledged before a replay of it was ordered and has not come with it.

        What was acknowledged after the order may lie in its window all the same, and is then not in the next one's.
        """
        return [
            owed
            for event, at in self.acked.items()
            if (by := self._replays_of(at))
            for owed in self._owed(event)
            if not any(owed in self.replayed.get(replay, ()) for replay in by)
        ]

    @property
    def phantom(self) -> int:
        """Requests with an event that nobody has attempted to produce, or of a replay that nobody has ordered."""
        return sum(
            arrival.event not in self.produced or (arrival.replay != "" and arrival.replay not in self.replays)
            for arrival in self._each()
        )

    @property
    def mismatched(self) -> int:
        """Requests at a wrong tenant's webhook, with another body, or with another delivery's webhook-id.

        Of a replay also those that name another first webhook-id than the event's.
        """
        wrong = sum(not self._right(arrival) for arrival in self._each() if arrival.event in self.produced)
        shared = sum(len({(a.event, a.webhook, a.replay) for a in same}) - 1 for same in self.arrivals.values())
        first = {(one.event, one.webhook): one.webhook_id for one in self._each() if not one.replay}
        named = sum(one.first != first.get((one.event, one.webhook), one.first) for one in self._each() if one.replay)
        return wrong + shared + named

    @property
    def duplicates(self) -> dict[str, int]:
        """How many requests came after the first one that was accepted, by webhook-id; those with none left out."""
        counted = {webhook_id: _after_the_first(same) for webhook_id, same in self.arrivals.items()}
        return {webhook_id: count for webhook_id, count in counted.items() if count}

    def oldest(self, kind: Kind) -> int | None:
        """When the oldest delivery that this kind waits for was acknowledged."""
        return next(iter(self.waiting.get(kind, {}).values()), None)

    def latencies_ms(self, spans: Iterable[tuple[int, int]]) -> list[int]:
        """From produced to received, of the quick tenants' events that were produced within these spans, sorted."""
        whole = list(spans)
        return sorted(
            at - made.at_ms
            for (event, _), at in self.received.items()
            if (made := self.produced[event]).tenant.startswith(Kind.QUICK)
            and any(start <= made.at_ms < end for start, end in whole)
        )

    def _each(self) -> Iterator[Arrival]:
        return (arrival for same in self.arrivals.values() for arrival in same)

    def _owed(self, event: str) -> list[Owed]:
        return [(event, webhook) for webhook in self.hooks[self.produced[event].tenant]]

    def _replays_of(self, acked_ms: int) -> set[str]:
        """The replays that may have an event acknowledged then: the first one ordered later, and the one before it."""
        names = list(self.replays)
        later = next((number for number, name in enumerate(names) if self.replays[name] >= acked_ms), None)
        return set() if later is None else set(names[max(later - 1, 0) : later + 1])

    def _kind(self, event: str) -> str:
        return self.produced[event].tenant.partition("-")[0]

    def _right(self, arrival: Arrival) -> bool:
        made = self.produced.get(arrival.event)
        if made is None:
            return False
        same = arrival.tenant == arrival.body_tenant == made.tenant and arrival.digest == made.digest
        return same and arrival.webhook in self.hooks[made.tenant]


def _after_the_first(same: list[Arrival]) -> int:
    accepted = (number for number, arrival in enumerate(same, start=1) if arrival.accepted)
    return len(same) - next(accepted, len(same))
