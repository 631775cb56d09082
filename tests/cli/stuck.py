"""A role in which one record never ends: `stuck.py TOPIC GROUP PATIENCE_S`. Its settings are in the environment."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from pipeline.cli import _stages
from pipeline.cli._wiring import WIRINGS, Place, Wired
from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.stage import Fail, Process, Stage
from pipeline.kafka.watchdog import Watchdog
from pipeline.settings import Settings


def processing(_fail: Fail) -> Process:
    """All records end at once but the first of the partition."""

    async def take(batch: Batch) -> None:
        for record, progress in batch:
            if progress.start(record.offset) and record.offset:
                progress.finish(record.offset)

    return take


def main(topic: str, group: str, patience_s: str) -> None:
    """Run the role under a watchdog of that patience."""

    @asynccontextmanager
    async def stuck(place: Place) -> AsyncIterator[Wired]:
        stage = Stage(place.settings, Source(group, place.instance, (topic,)), processing)
        yield Wired(stage, Publisher(place.settings), lambda: None)

    WIRINGS["stuck"] = stuck
    _stages.Watchdog = partial(Watchdog, patience_s=float(patience_s))  # type: ignore[assignment, attr-defined]
    _stages.run(Settings.read(), "stuck", None)


if __name__ == "__main__":
    main(*sys.argv[1:])
