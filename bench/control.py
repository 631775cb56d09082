"""The control plane's floors: ingest, pages of the delivery log, the recorder, views of a million subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from bench import ingest, pages, recorder, view
from bench.rig import say

_LOOK_S = 2.0
_INGEST_S = 20.0
PARTS = ("ingest", "pages", "recorder", "view")


async def run(parts: Sequence[str], folder: Path, *, quick: bool) -> dict[str, Any]:
    """Each part by itself; `quick` is a tenth of each.

    `busy_percent` is the most of the machine's CPU that was in use before a part began: rates mean little beside it.
    """
    part = 10 if quick else 1
    figures: dict[str, Any] = {}
    busy = 0.0
    for name in parts:
        busy = max(busy, await asyncio.to_thread(psutil.cpu_percent, _LOOK_S))
        say(f"{name}: (the machine is busy to {busy:.0f} % with other things)")
        place = folder / name
        place.mkdir()
        match name:
            case "ingest":
                figures[name] = await ingest.run(_INGEST_S / part, place)
            case "pages":
                figures[name] = await asyncio.to_thread(pages.run, pages.ROWS // part, place)
            case "recorder":
                figures[name] = await recorder.run(recorder.EVENTS // part, place)
            case _:
                figures[name] = await view.run(view.SUBSCRIPTIONS // part, place)
    return {**figures, "busy_percent": busy}


def missed(figures: dict[str, Any]) -> list[str]:
    """The floors that were not met."""
    judged = {"ingest": ingest.missed, "pages": pages.missed, "recorder": recorder.missed, "view": view.missed}
    return [line for name, judge in judged.items() if name in figures for line in judge(figures[name])]
