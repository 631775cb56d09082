"""Static members: a process holds a slot of its role and host; back soon, it finds its partitions untouched."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

from pipeline.settings import Settings


@contextmanager
def slot(settings: Settings, role: str) -> Iterator[str]:
    """The instance id (role, host, slot) of this process, held by a file lock in the data directory until it ends."""
    folder = settings.data_dir / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    number, file = next(found for n in count() if (found := _locked(folder / f"{role}-{n}", n)) is not None)
    try:
        yield f"{role}-{settings.instance_id}-{number}"
    finally:
        file.close()


def _locked(path: Path, number: int) -> tuple[int, IO[str]] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return number, file
