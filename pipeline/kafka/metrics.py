"""What every stage tells Prometheus: read when it is asked for, at no cost to the flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Gauge
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.kafka.feed import Feed
from pipeline.kafka.publisher import Publisher


def count_unreadable(registry: CollectorRegistry, count: Callable[[], int]) -> None:
    """Tell how many control records were met that cannot be read: their webhooks' events are dead letters."""
    words = "Control records that cannot be read."
    Gauge("pipeline_unreadable_records", words, registry=registry).set_function(count)


class StageCollector(Collector):
    """Partitions held, records unfinished, bytes that the broker has not reported yet."""

    def __init__(self, feed: Feed, publisher: Publisher, registry: CollectorRegistry) -> None:
        self._feed, self._publisher = feed, publisher
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One gauge each."""
        tracker = self._feed.tracker
        yield GaugeMetricFamily("pipeline_partitions", "Partitions held.", value=len(tracker.partitions))
        yield GaugeMetricFamily("pipeline_unfinished", "Records read and not finished.", value=tracker.unfinished)
        yield GaugeMetricFamily(
            "pipeline_unreported_bytes", "Written, not yet durable.", value=self._publisher.unreported_bytes
        )
