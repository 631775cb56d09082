"""`python -m bench throughput|latency|delay [-o json]`: progress on standard error, the figures on the last line."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench import delay, latency, throughput


def main() -> None:
    """Run a case."""
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
    for case in (one, two, three):
        case.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if given.case == "throughput":
            figures = asyncio.run(throughput.run(given.events, Path(folder)))
        elif given.case == "latency":
            figures = asyncio.run(latency.run(given.rate, given.seconds, Path(folder)))
        else:
            figures = asyncio.run(delay.run(given.backlog, Path(folder)))
    if given.output == "json":
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:12,.1f}")
    if given.case == "delay" and (missed := delay.missed(figures)):
        sys.exit("; ".join(missed))


if __name__ == "__main__":
    main()
