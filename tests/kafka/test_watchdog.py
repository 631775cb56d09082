from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.errors import PipelineError
from pipeline.kafka.tracker import Progress, Tracker
from pipeline.kafka.watchdog import PATIENCE_S, Watchdog

PLACE = ("deliveries", 3)


@dataclass
class Watched:
    """A feed that does what the test says, and a clock that is the test's."""

    tracker: Tracker = field(default_factory=Tracker)
    turned: float = 0.0
    down: bool = False
    startable: bool = True
    turning: bool = True

    def __post_init__(self) -> None:
        self.dog = Watchdog(cast("Any", self), lambda: self.down, lambda: self.startable)
        self.progress: Progress = self.tracker.take(PLACE)
        self.at = self.dog._looked
        self.turned = self.tracker.pulse.at = self.at

    def wait(self, seconds: float, step: float = 1.0) -> None:
        """Look again and again for so long."""
        for _ in range(int(seconds / step)):
            self.at += step
            if self.turning:
                self.turned = self.at
            self.tracker.pulse.at = self.at
            self.dog.look(self.at)

    def start(self, offset: int) -> None:
        """A record is read and started."""
        assert self.progress.see(offset)
        assert self.progress.start(offset)


def test_the_patience_in_force() -> None:
    """A request is handed over after 20 seconds; what is not finished 30 seconds later never will be."""
    assert PATIENCE_S == 20 + 30


def test_an_old_record_ends_the_process() -> None:
    """What was started and is not finished in time ends the process, which says where, although others go on."""
    watched = Watched()
    watched.start(7)
    watched.wait(49)
    for offset in range(8, 10):
        watched.start(offset)
        watched.progress.finish(offset)
    with pytest.raises(PipelineError, match=r"has not been finished, for 5\d s: deliveries\[3\] at 7"):
        watched.wait(3)


def test_what_finishes_in_time_is_fine() -> None:
    """A stage that finishes each of its records in time is left alone, however long it works."""
    watched = Watched()
    for offset in range(20):
        watched.start(offset)
        watched.wait(40)
        watched.progress.finish(offset)
    watched.wait(1_000)


def test_a_stage_in_which_nothing_moves_ends() -> None:
    """Records that wait while nothing starts or finishes end the process."""
    watched = Watched()
    watched.progress.see(4)
    with pytest.raises(PipelineError, match=r"nothing starts or finishes, for 5\d s: deliveries\[3\] at 4"):
        watched.wait(53)


def test_waiting_behind_others_is_fine() -> None:
    """A record that waits for its turn is not old as long as others finish."""
    watched = Watched()
    watched.progress.see(1_000_000)
    watched.progress.next = 0
    for offset in range(10):
        watched.start(offset)
        watched.wait(30)
        watched.progress.finish(offset)


def test_waiting_for_its_time_is_fine() -> None:
    """Where nothing that waits could start, as in a tier, hours may pass; from then on it is judged."""
    watched = Watched(startable=False)
    watched.progress.see(4)
    watched.wait(10_000)
    watched.startable = True
    watched.wait(49)
    with pytest.raises(PipelineError, match="nothing starts"):
        watched.wait(3)


def test_the_time_of_an_outage_does_not_count() -> None:
    """While a dependency is known not to answer nothing is judged, and after it everything has its time anew."""
    watched = Watched()
    watched.start(7)
    watched.progress.see(8)
    watched.wait(40)
    watched.down = True
    watched.wait(1_000)
    watched.down = False
    watched.wait(50)
    with pytest.raises(PipelineError):
        watched.wait(2)


def test_the_time_of_a_stop_does_not_count() -> None:
    """A process that was stopped for a minute is not ended for what it had in flight."""
    watched = Watched()
    watched.start(7)
    watched.wait(60, step=60)
    watched.wait(50)
    with pytest.raises(PipelineError):
        watched.wait(2)


def test_a_thread_that_does_not_come_back_ends_the_process() -> None:
    """A poller that is stuck in its client brings nothing more, and nobody else gets its partitions."""
    watched = Watched(turning=False)
    with pytest.raises(PipelineError, match="the thread that polls Kafka has not come back"):
        watched.wait(52)
