"""What every stage tells Prometheus: read when it is asked for, at no cost to the flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.flow.throttle import Throttle
from pipeline.kafka.feed import Feed
from pipeline.kafka.jobs import Jobs
from pipeline.kafka.processing import Recording
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.reading import Parts
from pipeline.kafka.standing import Backlog
from pipeline.ports import Record

_log = structlog.get_logger()


def count_unreadable(registry: CollectorRegistry, count: Callable[[], int]) -> None:
    """Tell how many control records were met that cannot be read: their webhooks' events are dead letters."""
    words = "Control records that cannot be read."
    Gauge("pipeline_unreadable_records", words, registry=registry).set_function(count)


def show_throttle(registry: CollectorRegistry, throttle: Throttle) -> None:
    """Tell how many deliveries of replays a second are let in at most, as the senders' waiting allows it now."""
    words = "Deliveries of replays a second that are let in, at most."
    Gauge("pipeline_replay_rate", words, registry=registry).set_function(lambda: throttle.rate)


@dataclass(slots=True)
class Missed:
    """Told of the records that cannot be recorded: counts them, and logs each."""

    count: int = 0

    def __call__(self, record: Record, reason: str) -> None:
        """One more."""
        self.count += 1
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        _log.warning("not recorded", **place, reason=reason)


def count_recorded(registry: CollectorRegistry, recording: Recording, missed: Missed) -> None:
    """Tell how many records have been written to the delivery log, and how many could not be read."""
    words = "Records written to the delivery log."
    Gauge("pipeline_recorded_records", words, registry=registry).set_function(lambda: recording.recorded)
    words = "Records that the delivery log lacks because they cannot be read."
    Gauge("pipeline_unrecorded_records", words, registry=registry).set_function(lambda: missed.count)


def count_replays(registry: CollectorRegistry, jobs: Jobs, backlog: Backlog, parts: Parts) -> None:
    """Tell how many replays are at work here, what they have written, and how much of that waits to be let in."""
    words = "Replays at work."
    Gauge("pipeline_replays", words, registry=registry).set_function(lambda: jobs.running)
    words = "Deliveries that replays have written since the process began."
    Gauge("pipeline_replay_deliveries", words, registry=registry).set_function(lambda: parts.deliveries)
    words = "Deliveries of replays that wait to be let in, as far as it was looked."
    Gauge("pipeline_replay_backlog", words, registry=registry).set_function(lambda: backlog.waiting)


class StageCollector(Collector):
    """Partitions held, records unfinished, bytes that the broker has not reported yet (of a stage that writes any)."""

    def __init__(self, feed: Feed, publisher: Publisher | None, registry: CollectorRegistry) -> None:
        self._feed, self._publisher = feed, publisher
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One gauge each."""
        tracker = self._feed.tracker
        yield GaugeMetricFamily("pipeline_partitions", "Partitions held.", value=len(tracker.partitions))
        yield GaugeMetricFamily("pipeline_unfinished", "Records read and not finished.", value=tracker.unfinished)
        if self._publisher is not None:
            yield GaugeMetricFamily(
                "pipeline_unreported_bytes", "Written, not yet durable.", value=self._publisher.unreported_bytes
            )
