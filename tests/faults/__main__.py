"""`python -m tests.faults`: kills and stops what can be, and counts what is lost.

Progress is on stderr, the figures are on stdout, with `-o json` as one object on the last line.

Exit code 1 when something was lost, made up, mixed up, left stuck, or sent twice without having been in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.faults import Control
from tests.faults.run import LOG, failed, run
from tests.faults.system import Given

_KILLS, _RATE = 6, 200


def main() -> int:
    """Run; the exit code."""
    given = _arguments()
    if given.resume:
        folder, choices = given.resume.absolute(), Given.read(given.resume)
    else:
        folder = (given.data_dir or Path(tempfile.mkdtemp(prefix="faults-"))).absolute()
        if (folder / "run.json").exists():
            raise SystemExit(f"{folder} holds a run already: continue it with --resume {folder}")
        seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311 - a plan, no secret
        kills = given.kills or (0 if given.control else _KILLS)
        choices = Given(seed, kills, given.rate, given.control, given.during)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)  # noqa: T201 - its progress

    say(f"seed {choices.seed}, ledger, logs and {LOG} in {folder}; if interrupted: --resume {folder}")
    try:
        figures = asyncio.run(run(folder, choices, say))
    except PipelineError as error:
        raise SystemExit(f"faults: {error}") from error
    bad = failed(figures)
    if not (bad or given.data_dir or given.resume):
        shutil.rmtree(folder / "cluster")
    text = json.dumps(figures) if given.output == "json" else "\n".join(f"{k:18} {v}" for k, v in figures.items())
    print(text)  # noqa: T201 - its result
    return int(bad)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, help="how many processes are killed")
    parser.add_argument("--seed", type=int, help="which faults, when; a random one is told")
    parser.add_argument("--control", type=Control, choices=list(Control), help="build this fault in: it must be seen")
    parser.add_argument("--during", choices=("replay",), help="what goes on meanwhile, and must not be lost either")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the interrupted run of this folder")
    parser.add_argument("--rate", type=int, default=_RATE, help="events per second")
    parser.add_argument(
        "--data-dir", type=Path, help="where ledger, logs and records are kept; else a temporary folder"
    )
    parser.add_argument("-o", dest="output", choices=("json", "text"), default="text")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
