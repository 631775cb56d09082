"""What is done to the system, in which order: drawn from a seed, so that a run can be repeated and continued."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pipeline.faults import Control
from tests.faults.log import BROKER

Card = TypeVar("Card")

ROLES: Mapping[str, int] = {"router": 2, "sender": 2, "delay": 2, "api": 1}
"""The workers under test, and how many of each."""
DURING_REPLAY: Mapping[str, int] = {**ROLES, "replayer": 1}
"""Those of a run in which a replay goes on. With one replayer each of its deaths is the replay's."""

POINTS: Mapping[str, tuple[str, ...]] = {
    "router": ("before-produce/deliveries", "after-report/deliveries", "before-commit", "after-commit"),
    "sender": (
        "before-request",
        "after-response",
        "before-produce/attempts",
        "after-report/attempts",
        "before-produce/retry",
        "after-report/retry",
        "before-commit",
        "after-commit",
    ),
    "delay": (
        "before-produce/retry",
        "after-report/retry",
        "before-produce/deliveries",
        "after-report/deliveries",
        "before-commit",
        "after-commit",
    ),
    "api": ("before-produce/events", "after-report/events"),
    "replayer": (
        "before-produce/deliveries-replay",
        "after-report/deliveries-replay",
        "before-produce/replay-progress",
        "after-report/replay-progress",
        "before-commit",
        "after-commit",
    ),
}
"""Where each role is made to die (`pipeline.faults`); records of a tier match `retry`."""


class Kind(StrEnum):
    """What can be done."""

    KILL = "kill"
    """SIGKILL at a random moment."""
    POINT = "point"
    """SIGKILL; what is started in its place kills itself at a named point. Two kills."""
    BROKER = "broker"
    """SIGKILL of the broker, which is started again after a pause."""
    FREEZE = "freeze"
    """The broker is stopped for a while, then killed: what it was sent in between is gone."""
    DRAIN = "drain"
    """SIGTERM; started again when it has ended."""
    STOP = "stop"
    """SIGSTOP for longer than the session, then SIGCONT."""
    STORM = "storm"
    """Workers are added and removed again."""
    REGISTRY = "registry"
    """SIGKILL of the registry, which is started again after a pause."""
    OUTAGE = "outage"
    """A receiver is gone for a while; other faults go on meanwhile."""


_KILLS: Mapping[Kind, int] = {Kind.KILL: 1, Kind.POINT: 2, Kind.BROKER: 1, Kind.FREEZE: 1}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to do. `pause_s`: how long what was killed stays away (workers: 0 is at once), or how long it lasts.

    `at_once`: the next fault does not wait until the system is back to full speed.
    """

    kind: Kind
    role: str = ""
    slot: int = 0
    point: str = ""
    pause_s: float = 0.0
    at_once: bool = False

    @property
    def name(self) -> str:
        """The worker's name."""
        return f"{self.role}-{self.slot}"

    @property
    def kills(self) -> int:
        """How many kills it counts for."""
        return _KILLS.get(self.kind, 0)


SPARE_S = 12.0
"""Longer than a session: others take the partitions of a worker over."""
_AWAY, _AT_ONCE, _POINTS, _FROZEN = 0.12, 0.2, 0.5, 0.25
_LONG = 100
"""From so many kills on a process is stopped for a minute, once in a while."""
_OTHERS = (Kind.OUTAGE, Kind.DRAIN, Kind.STOP, Kind.REGISTRY, Kind.STORM)
_EVERY, _LONG_EVERY = 6, 12
"""One other fault for so many kills, in short runs and in long ones."""


def faults(seed: int, kills: int, control: Control | None = None, counts: Mapping[str, int] = ROLES) -> list[Fault]:
    """All that is done in a run, in order: `kills` kills spread evenly over the roles, other faults in between.

    A role that a plain run has not is killed first: it must be among those of a short run.
    """
    if control is not None:
        return _CONTROLS[control] * max(kills // len(_CONTROLS[control]), 1)  # once is enough
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    others = _deck(chance, _OTHERS)
    every, stopped_s = (_LONG_EVERY, 60.0) if kills >= _LONG else (_EVERY, SPARE_S)
    roles, points = _victims(chance, counts), {role: _deck(chance, POINTS[role]) for role in counts}
    planned: list[Fault] = []
    done = 0
    while done < kills:
        fault = _kill(chance, next(roles), counts, points, kills - done)
        if done // every != (done + fault.kills) // every:
            planned.append(_other(chance, next(others), counts, stopped_s))
        planned.append(fault)
        done += fault.kills
    return planned


def _kill(
    chance: random.Random, role: str, counts: Mapping[str, int], points: Mapping[str, Iterator[str]], left: int
) -> Fault:
    """One kill of a role, or the two of `POINT`."""
    if role == BROKER:
        kind = Kind.FREEZE if chance.random() < _FROZEN else Kind.BROKER
        return Fault(kind, pause_s=chance.uniform(0.5, 4.0))
    slot = chance.randrange(counts[role])
    if left > 1 and chance.random() < _POINTS:
        at = f"{next(points[role])}:{int(10 ** chance.uniform(0, 2))}"
        if "commit" in at:
            at = at.partition(":")[0] + f":{chance.randint(1, 3)}"
        return Fault(Kind.POINT, role, slot, at)
    away = SPARE_S if role != "api" and chance.random() < _AWAY else 0.0
    return Fault(Kind.KILL, role, slot, pause_s=away, at_once=not away and chance.random() < _AT_ONCE)


def _other(chance: random.Random, kind: Kind, counts: Mapping[str, int], stopped_s: float) -> Fault:
    worker = chance.choice(stages(counts))
    slot = chance.randrange(counts[worker])
    match kind:
        case Kind.OUTAGE:
            return Fault(kind, pause_s=chance.uniform(2.0, 6.0), at_once=True)
        case Kind.REGISTRY:
            return Fault(kind, at_once=True)
        case Kind.STOP:
            return Fault(kind, worker, slot, pause_s=stopped_s)
        case _:
            return Fault(kind, worker, slot)


def _victims(chance: random.Random, counts: Mapping[str, int]) -> Iterator[str]:
    """Every role and the broker once in a random order, then again; first of all what a plain run does not have."""
    if added := [role for role in counts if role not in ROLES]:
        yield from added
        yield from chance.sample((*ROLES, BROKER), len(ROLES) + 1)
    yield from _deck(chance, (*counts, BROKER))


def stages(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The roles that are consumer groups."""
    return tuple(role for role in counts if role != "api")


def _deck(chance: random.Random, cards: tuple[Card, ...]) -> Iterator[Card]:
    """Every card once in a random order, then again."""
    while True:
        yield from chance.sample(cards, len(cards))


_CONTROLS: Mapping[Control, list[Fault]] = {
    Control.COMMIT_FIRST: [
        Fault(Kind.POINT, "delay", slot, f"after-commit:{n}") for n in (3, 5, 7) for slot in range(ROLES["delay"])
    ],
    Control.ACKS_0: [Fault(Kind.FREEZE, pause_s=1.5)],
    Control.SWALLOW_ERRORS: [Fault(Kind.BROKER, pause_s=4.0)],
}
"""What shows each control quickly: each of these is among the faults that the real thing must survive.

A delay worker nearly always holds a record or more that it has read; a sender that dies has sent nearly all of its own.
"""
