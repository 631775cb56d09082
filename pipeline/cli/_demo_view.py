"""What a person sees of the demo: a live table on a terminal, lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli import _output
from pipeline.cli._demo_score import Score, Totals
from pipeline.http.receiver import Received
from pipeline.profiles import PROFILES

_REQUESTS = 10
_PLAIN_S = 2.0
_BODY = 60
_ACKNOWLEDGED = range(200, 300)
_COLUMNS = ("events", "delivered", "verified", "retried", "dead", "waiting")


class View:
    """Live on stderr if that is a terminal, else on stdout if that is one; else lines on stderr.

    `say` may be called at any time; `refresh` between `shown` and its end, as often as one likes.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=sys.stderr.isatty() or not sys.stdout.isatty(), highlight=False)
        self._live: Live | None = None
        self._requests: deque[Text] = deque(maxlen=_REQUESTS)
        self._said, self._at = "", time.monotonic()

    def say(self, line: str) -> None:
        """A sentence about what goes on."""
        if self._live:
            self._live.console.print(Text(line))
        else:
            _output.aside(line)

    def received(self, title: str, request: Received) -> None:
        """A request came to the receiver of this product."""
        self._requests.append(_request(title, request))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the counts from here on."""
        if not self._console.file.isatty():
            yield
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def refresh(self, score: Score) -> None:
        """Show how it stands."""
        if self._live:
            recent = Group(*self._requests)
            self._live.update(Group(table(score), Text(), recent), refresh=True)
        elif time.monotonic() - self._at >= _PLAIN_S:
            self._at = time.monotonic()
            self._tell(_summary(score))

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            _output.aside(line)


def table(score: Score) -> Table:
    """The counts by product, and their sums."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("product")
    for column in _COLUMNS:
        made.add_column(column, justify="right")
    totals, waiting = score.totals(), score.waiting()
    for name, one in totals.items():
        made.add_row(PROFILES[name].title, *_cells(one, waiting[name]))
    made.add_row("all", *_cells(sum(totals.values(), Totals()), sum(waiting.values())), style="bold")
    return made


def _cells(totals: Totals, waiting: int) -> tuple[str, ...]:
    return tuple(str(number) if number else "·" for number in (*astuple(totals), waiting))


def _summary(score: Score) -> str:
    totals, waiting = score.totals(), score.waiting()
    numbers = (*astuple(sum(totals.values(), Totals())), sum(waiting.values()))
    words = [f"{number} {name}" for number, name in zip(numbers, _COLUMNS, strict=True)]
    by_product = [f"{name} {one.delivered}" for name, one in totals.items()]
    return f"{', '.join(words)} (delivered: {', '.join(by_product)})"


def _request(title: str, request: Received) -> Text:
    """`10:31:07 Qase verified 200 msg_… {"event_name": …`."""
    ended = "verified" if request.reason is None else f"refused: {request.reason}"
    style = "red" if request.reason else "green" if request.status in _ACKNOWLEDGED else "yellow"
    body = " ".join(request.body[: 4 * _BODY].decode(errors="replace").split())[:_BODY]
    when = time.strftime("%H:%M:%S", time.localtime(request.at))
    said = (f"{ended} {request.status} ", style)
    rest = (f"{request.webhook_id[:12]}… {body}", "dim")
    return Text.assemble((f"{when} ", "dim"), f"{title:<18}", said, rest, no_wrap=True, overflow="ellipsis")
