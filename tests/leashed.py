"""The product's own processes for tests: they die with the test run, however it ends."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.embedded import leash

_LOOK_S = 0.05


@contextmanager
def leashed(
    name: str, command: Sequence[str], folder: Path, env: Mapping[str, str], cwd: Path | None = None
) -> Iterator[leash.Child]:
    """A process whose output is in `folder/NAME.log`; killed at the end if it still runs."""
    child = leash.start(name, command, folder / f"{name}.log", env=env, cwd=cwd)
    try:
        yield child
    finally:
        child.signal(signal.SIGKILL)
        while child.code() is None:
            time.sleep(_LOOK_S)


def told_to_stop(child: leash.Child, within_s: float) -> None:
    """SIGTERM; it must end by itself in time, without a fault."""
    child.signal(signal.SIGTERM)
    code = child.process.wait(within_s)
    assert code == 0, f"{child.name} ended with {code}: {child.last_words(20)}"


def said(child: leash.Child, words: str, within_s: float = 60.0) -> str:
    """The first line of its output in which this pattern is, once there is one."""
    until = time.monotonic() + within_s
    while not (found := [line for line in child.log.read_text().splitlines() if re.search(words, line)]):
        code = child.code()
        assert code is None, f"{child.name} ended with {code}: {child.last_words(20)}"
        assert time.monotonic() < until, f"{child.name} has not said {words!r}: {child.last_words(20)}"
        time.sleep(_LOOK_S)
    return found[0]
