"""`python -m bench CASE [-o json]`: progress on standard error, the figures on the last line."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import control, delay, isolation, latency, replay, throughput
from bench.rig import say


def main() -> None:
    """Run a case."""
    given = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        figures, missed = asyncio.run(_run(given, Path(name)))
    if given.output == "json":
        print(json.dumps(figures))
    else:
        _table(figures)
    if missed:
        sys.exit("; ".join(missed))


async def _run(given: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The figures, and the floors that were missed."""
    match given.case:
        case "throughput":
            figures = await throughput.run(given.events, folder)
            say(throughput.verdict(figures))
            return figures, []
        case "latency":
            return await latency.run(given.rate, given.seconds, folder), []
        case "delay":
            figures = await delay.run(given.backlog, folder)
            return figures, delay.missed(figures)
        case "control":
            figures = await control.run(given.only or control.PARTS, folder, quick=given.quick)
            return figures, control.missed(figures)
        case "replay":
            asked = {"count": given.rounds, "window_s": given.seconds}
            figures = await replay.run(given.only or replay.PARTS, given.rate, folder, **asked)
            return figures, replay.missed(figures)
        case _:
            cases, options = given.only or isolation.CASES, {"backlog": given.backlog, "count": given.rounds}
            compared = await isolation.run(cases, given.rate, folder, **options)
            return compared, isolation.missed(compared)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    cases = parser.add_subparsers(dest="case", required=True)
    one = cases.add_parser("throughput", help="events per second, end to end and by part")
    one.add_argument("--events", type=int, default=40_000)
    two = cases.add_parser("latency", help="milliseconds from produce to received")
    two.add_argument("--rate", type=int, default=500, help="events per second")
    two.add_argument("--seconds", type=float, default=20.0)
    three = cases.add_parser("delay", help="how late a ladder with many waiting is; exit code 1 when a floor is missed")
    three.add_argument("--backlog", type=int, default=100_000, help="records, written at 5,000 per second")
    four = cases.add_parser("isolation", help="healthy endpoints beside bad ones; exit code 1 when a floor is missed")
    four.add_argument("--case", dest="only", action="append", choices=isolation.CASES, help="this one alone")
    four.add_argument("--rate", type=float, default=isolation.RATE, help="healthy events per second")
    four.add_argument(
        "--rounds", type=int, default=isolation.ROUNDS, help="of windows: alone, beside good ones, beside bad ones"
    )
    four.add_argument("--backlog", type=int, default=isolation.BACKLOG, help="of the limited endpoint")
    five = cases.add_parser("control", help="ingest, log, recorder, views; exit code 1 when a floor is missed")
    five.add_argument("--part", dest="only", action="append", choices=control.PARTS, help="this one alone")
    five.add_argument("--quick", action="store_true", help="a tenth of everything")
    six = cases.add_parser("replay", help="plans, and a replay beside live traffic; exit code 1 when a floor is missed")
    six.add_argument("--part", dest="only", action="append", choices=replay.PARTS, help="this one alone")
    six.add_argument("--rate", type=float, default=replay.RATE, help="live events per second, and replayed ones")
    six.add_argument("--rounds", type=int, default=replay.ROUNDS, help="of windows, without and with a replay")
    six.add_argument("--seconds", type=float, default=replay.WINDOW_S, help="of a window")
    for case in (one, two, three, four, five, six):
        case.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    return parser


def _table(figures: dict[str, Any], above: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            _table(value, "" if name == "cases" else f"{name} ")
        else:
            print(f"{above + name:32} {value:12,.3f}" if abs(value) < 10 else f"{above + name:32} {value:12,.1f}")


if __name__ == "__main__":
    main()
