from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import PipelineError
from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Carriage
from pipeline.flow.retry import DEFAULT, Ladder
from pipeline.kafka import topics
from pipeline.kafka.publisher import Publisher
from pipeline.ports import Outgoing
from pipeline.settings import Settings
from pipeline.workers.carriage import FIRST, LIMIT, to_headers
from pipeline.workers.dead import _MOST
from tests.kafka.live import consume, new_topic, settings_of
from tests.live_cluster import LiveCluster
from tests.workers.parts import CODEC, DELIVERY, UNDERTAKER, read

POLICIES = {topic.name: topic.config for topic in topics.catalogue(Ladder.parse(DEFAULT))}


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return settings_of(cluster)


def largest(size: int, headers: tuple[tuple[str, bytes], ...]) -> Outgoing:
    """A delivery whose record counts exactly `size` bytes."""
    delivery = replace(DELIVERY, body=b"")
    room = size - Outgoing("", b"acme/wh_1", CODEC.encode_delivery(delivery), headers).size - 3
    return Outgoing("", b"acme/wh_1", CODEC.encode_delivery(replace(delivery, body=bytes(room))), headers)


async def test_the_largest_delivery_is_taken(settings: Settings) -> None:
    """What the router lets pass fits into `deliveries`, and into a tier with all that a retry adds to it."""
    deliveries, tier = (new_topic(settings, config=POLICIES[name]) for name in ("deliveries", "retry-6h"))
    out = largest(LIMIT, FIRST)
    assert out.size == LIMIT
    retried = to_headers(Carriage("r" * 22, 99, 86_400_000, 1_767_225_600_000))
    publisher = Publisher(settings)
    await publisher.publish(replace(out, topic=deliveries))
    later = CODEC.encode_delivery(replace(CODEC.delivery(out.value), attempt=10))
    await publisher.publish(replace(out, topic=tier, value=later, headers=retried))
    (taken,) = consume(settings, tier, 1)
    assert CODEC.delivery(taken.value()).attempt == 10
    with pytest.raises(PipelineError, match="was refused"):
        await publisher.publish(replace(largest(LIMIT + 1_000, FIRST), topic=deliveries))
    await publisher.close()


@pytest.mark.parametrize("more", [-600, 100])
async def test_the_largest_dead_letter_is_taken(settings: Settings, more: int) -> None:
    """A record just small enough to be carried whole, and one just too large, end in letters that `retry-dlq` takes."""
    topic = new_topic(settings, config=POLICIES["retry-dlq"])
    letter = UNDERTAKER.bury(read("events", bytes(_MOST + more)), Reason.FRAMING, "zeros")
    publisher = Publisher(settings)
    await publisher.publish(replace(letter, topic=topic))
    (taken,) = consume(settings, topic, 1)
    assert (CODEC.dead_letter(taken.value()).digest is None) is (more < 0)
    await publisher.close()


async def test_small_records_beside_a_large_one_are_taken(settings: Settings) -> None:
    """Records that go out together are not refused for their sum."""
    topic = new_topic(settings, config=POLICIES["deliveries"])
    publisher, small = Publisher(settings, linger_ms=100), Outgoing(topic, b"k", bytes(100_000), FIRST)
    big = replace(largest(LIMIT, FIRST), topic=topic)
    reports = [publisher.publish(record) for record in (small, small, big, small, big, small)]
    assert [(await report).offset for report in reports] == [0, 1, 2, 3, 4, 5]
    await publisher.close()
