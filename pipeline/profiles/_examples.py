"""The examples: a file for each event, `examples/<profile>/<type>.json`, that the demo and tests of a webhook send."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from pipeline.flow.event import Event

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (_PACKAGE / "examples", _PACKAGE.parent / "examples")
"""In an installed package; in a source tree."""


@dataclass(frozen=True, slots=True)
class Example:
    """An event that the product might have sent. `data` is JSON text."""

    profile: str
    type: str
    data: str
    actor: str | None = None
    subject: str | None = None

    def event(self, tenant: str, event_id: str, time_ms: int) -> Event:
        """The example as an event of this tenant."""
        return Event(event_id, tenant, self.type, time_ms, self.data, self.actor, self.subject)


@cache
def examples(profile_name: str) -> tuple[Example, ...]:
    """The profile's examples in the order of their file names; none for a profile that has no folder."""
    return tuple(_read(profile_name, file) for file in sorted(_folder(profile_name).glob("*.json")))


def _folder(profile_name: str) -> Path:
    places = [place / profile_name for place in _PLACES]
    return next((place for place in places if place.is_dir()), places[-1])


def _read(profile_name: str, file: Path) -> Example:
    said = orjson.loads(file.read_bytes())
    data = orjson.dumps(said["data"]).decode()
    return Example(profile_name, said["type"], data, said.get("actor"), said.get("subject"))
