from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.embedded.addresses import free_port
from pipeline.errors import Unreachable
from pipeline.kafka import offsets
from pipeline.kafka.offsets import lower_offsets_beyond_end
from tests.live_cluster import LiveCluster

GROUP = "pipeline-test-offsets"


@pytest.fixture
def admin(cluster: LiveCluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def topic(cluster: LiveCluster, admin: AdminClient) -> str:
    """A topic of two partitions, with three records in each."""
    name = f"offsets-{uuid.uuid4()}"
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(10)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(6):
        producer.produce(name, b"record", partition=number % 2)
    assert producer.flush(20) == 0
    return name


def commit(admin: AdminClient, group: str, topic: str, *places: int) -> None:
    wanted = [TopicPartition(topic, partition, offset) for partition, offset in enumerate(places)]
    loading = True
    while loading:
        asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])
        loading = any(p.error for p in asked[group].result(10).topic_partitions or ())


def committed(admin: AdminClient, group: str, topic: str) -> list[int]:
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10)
    places = {p.partition: p.offset for p in asked.topic_partitions or () if p.topic == topic}
    return [places[partition] for partition in sorted(places)]


def test_a_commit_beyond_the_end_is_lowered(cluster: LiveCluster, admin: AdminClient, topic: str) -> None:
    """Only what lies beyond its log's end is lowered, to that end, with a warning; a second look finds nothing."""
    commit(admin, GROUP, topic, 100, 2)
    warnings = lower_offsets_beyond_end(cluster.bootstrap)
    lost = f"{GROUP} had committed offset 100 of {topic}-0, but the log ends at 3: the broker lost 97 records"
    assert warnings == [f"{lost} at its last end. Consuming goes on at 3."]
    assert committed(admin, GROUP, topic) == [3, 2]
    assert lower_offsets_beyond_end(cluster.bootstrap) == []


def test_a_commit_at_the_end_stays(cluster: LiveCluster, admin: AdminClient, topic: str) -> None:
    """A group that has read everything is left alone."""
    commit(admin, GROUP, topic, 3, 3)
    assert lower_offsets_beyond_end(cluster.bootstrap) == []
    assert committed(admin, GROUP, topic) == [3, 3]


def test_members_of_a_killed_run_are_waited_for(cluster: LiveCluster, admin: AdminClient, topic: str) -> None:
    """While a dead member's session lasts, the broker refuses to change its group: the offsets are lowered after it."""
    group = f"{GROUP}-{uuid.uuid4()}"
    commit(admin, group, topic, 50, 50)
    config = {"group.id": group, "group.instance.id": "static", "session.timeout.ms": 1500, "enable.auto.commit": False}
    member = Consumer({"bootstrap.servers": cluster.bootstrap, "auto.offset.reset": "earliest", **config})
    member.subscribe([topic])
    while not member.assignment():
        member.poll(0.05)
    member.close()  # a static member does not leave its group: for the broker it is as dead as a killed one
    assert len(lower_offsets_beyond_end(cluster.bootstrap)) == 2
    assert committed(admin, group, topic) == [3, 3]


def test_no_broker_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker there is an error that names it, not an endless wait."""
    monkeypatch.setattr(offsets, "_PATIENCE", 0.0)
    monkeypatch.setattr(offsets, "_TIMEOUT", 0.5)
    bootstrap = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=f"Kafka at {bootstrap} did not let its committed offsets be checked"):
        lower_offsets_beyond_end(bootstrap)
