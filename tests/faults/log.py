"""The log of faults: one JSON object a line, for people, for the figures, and to continue an interrupted run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.flight import End
from tests.faults.ledger import append

Entry = dict[str, Any]
_WINDOW_MS = 5_000
"""How long before its end a sender's request may have begun and still be unreported."""
_BACK_MS = 10_000
"""How long after a broker is back reports may still be due from before it went."""
BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Log:
    """What has been done, with the milliseconds of this machine's clock at which it was."""

    path: Path

    def write(self, event: str, at_ms: int | None = None, **more: object) -> None:
        """Add an entry."""
        line = json.dumps({"at": now_ms() if at_ms is None else at_ms, "event": event, **more})
        file = append(self.path)
        os.write(file, line.encode() + b"\n")
        os.close(file)

    def entries(self, *events: str) -> list[Entry]:
        """Those of these kinds, or all; a line that was cut by a death is left out."""
        return [entry for entry in self._all() if not events or entry["event"] in events]

    @property
    def done(self) -> int:
        """How many of the planned faults have been carried out."""
        return len(self.entries("done"))

    @property
    def calm(self) -> list[tuple[int, int]]:
        """The spans in which nothing was done."""
        return [(entry["since"], entry["at"]) for entry in self.entries("calm")]

    @property
    def ends(self) -> list[End]:
        """When a sender was ended by us, by its own fault, with the whole run, or stopped for longer than a session."""
        outages = self._outages()
        return [
            End(entry["at"], _window_ms(entry["at"], outages), lasting=entry["event"] != "stop")
            for entry in self.entries("kill", "ended", "interrupted", "stop")
            if str(entry.get("target", "sender")).startswith("sender")
        ]

    def worst(self, *, broker: bool) -> float:
        """The longest that it took to be back to full speed after a kill, in seconds."""
        back = self.entries("done")
        return max((e["recover_s"] for e in back if e["recover_s"] and (e["target"] == BROKER) is broker), default=0.0)

    def counts(self) -> dict[str, int]:
        """How many faults of each kind."""
        counted: dict[str, int] = {}
        for entry in self.entries("kill", "drain", "stop", "storm", "registry", "outage", "ended", "interrupted"):
            kind = f"kill {str(entry['target']).partition('-')[0]}" if entry["event"] == "kill" else entry["event"]
            counted[kind] = counted.get(kind, 0) + 1
        return dict(sorted(counted.items()))

    def _outages(self) -> list[tuple[int, int]]:
        """From when to when no broker answered; one that never came back may be away still."""
        gone = [entry["at"] for entry in self.entries("kill", "freeze") if entry["target"] == BROKER]
        back = [entry["at"] for entry in self.entries("back")]
        return [(at, next((end for end in back if end > at), now_ms())) for at in gone]

    def _all(self) -> Iterator[Entry]:
        if self.path.exists():
            *whole, _cut = self.path.read_text().split("\n")
            yield from map(json.loads, whole)


def _window_ms(at: int, outages: list[tuple[int, int]]) -> int:
    return _WINDOW_MS + max((at - gone for gone, back in outages if gone <= at <= back + _BACK_MS), default=0)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000
