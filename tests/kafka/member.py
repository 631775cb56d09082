"""A member of a group as a process of its own: `member.py BOOTSTRAP GROUP TOPIC SESSION_MS LEDGER`.

It works on one record at a time for some milliseconds, and writes the offset into the ledger before.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pipeline.kafka.feed import Batch, Source
from pipeline.kafka.stage import Fail, Process, Stage
from pipeline.settings import Settings

_WORK_S = 0.002


async def main(bootstrap: str, group: str, topic: str, session_ms: str, ledger: str) -> None:
    """Work until it is killed."""
    settings = Settings(bootstrap_servers=bootstrap, data_dir=Path(ledger).parent)
    file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def processing(_fail: Fail) -> Process:
        async def take(batch: Batch) -> None:
            for record, progress in batch:
                if progress.start(record.offset):
                    os.write(file, b"%d\n" % record.offset)
                    await asyncio.sleep(_WORK_S)
                    progress.finish(record.offset)

        return take

    stage = Stage(settings, Source(group, "member", (topic,), session_ms=int(session_ms)), processing)
    await stage.start()
    raise await stage.failed


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
