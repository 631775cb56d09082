from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipeline.errors import Unreachable
from pipeline.flow.retry import DEFAULT, Ladder, topic_span_ms
from pipeline.kafka import topics
from pipeline.settings import Settings
from tests.kafka.live import PATIENCE_S, committed, new_topic
from tests.live_cluster import LiveCluster
from tests.prepared import prepared

TIER = "retry-77h"
"""A tier that only these tests have: too long for any record to come out of."""


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return prepared(cluster)


@pytest.fixture
def longer(settings: Settings) -> Iterator[Settings]:
    """Settings whose ladder has one more tier; it is removed at the end."""
    yield dataclasses.replace(settings, ladder=f"{settings.ladder} {TIER}")
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    if TIER in topics.existing(admin):
        admin.delete_topics([TIER])[TIER].result(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while TIER in topics.existing(admin):
            assert time.monotonic() < until


def test_the_catalogue_is_the_contract_s() -> None:
    """Every topic is there once: tiers with the broker's append time, control topics in one partition, by sizes."""
    made = {topic.name: topic for topic in topics.catalogue(Ladder.parse(DEFAULT))}
    tiers = [name for name in made if topic_span_ms(name)]
    assert len(made) == len(topics.catalogue(Ladder.parse(DEFAULT))) == 23
    assert tiers == [f"retry-{wait}" for wait in ("5s", "20s", "60s", "3m", "10m", "30m", "1h", "6h")]
    assert {name for name, topic in made.items() if topic.partitions == 1} == {
        *(
            "subscriptions",
            "tenants",
            "keys",
            "cancels",
            "webhook-tests",
            "clock",
            "audit",
        )
    }
    assert {name for name, topic in made.items() if "LogAppendTime" in topic.config.values()} == {*tiers, "clock"}
    for name in ("deliveries", "deliveries-replay", *tiers):
        assert (made[name].config["retention.ms"], made[name].config["retention.bytes"]) == ("-1", "-1")
    for name, days in (("events", 14), ("attempts", 30), ("retry-dlq", 30), ("audit", 365)):
        assert made[name].config["retention.ms"] == str(days * 86_400_000)
    mib = {name: int(topic.config.get("max.message.bytes", 0)) // 1_048_576 for name, topic in made.items()}
    assert (mib["events"], mib["deliveries"], mib["retry-6h"], mib["retry-dlq"]) == (1, 4, 4, 8)


def test_delay_reads_every_tier_that_exists() -> None:
    """Also one that left the setting; never the dead letters, nor what only looks like a tier."""
    there = ("retry-5s", "retry-dlq", "retry-2h", "retry-0s", "events", "xretry-5s", "retry-5s-x")
    assert topics.delayed(there) == ("retry-2h", "retry-5s")
    assert topics.forwarded(there) == ("retry-2h", "retry-5s")


@pytest.mark.replay
def test_delay_reads_what_replays_write() -> None:
    """The delay group has a place in `deliveries-replay`, and the tiers' pattern is not what finds it."""
    assert topics.forwarded(("retry-5s", "deliveries-replay", "deliveries")) == ("deliveries-replay", "retry-5s")
    assert topics.groups(("deliveries-replay",))[topics.DELAY_GROUP] == ("deliveries-replay",)
    assert topics.delayed(("deliveries-replay",)) == ()


def test_creating_again_changes_nothing(settings: Settings) -> None:
    """What is there is left as it is, and all of the catalogue is there."""
    assert topics.create(settings, 4, 1) == []
    there = topics.existing(topics.admin(settings))
    assert {topic.name for topic in topics.catalogue(Ladder.parse(DEFAULT))} <= set(there)
    assert (there["deliveries"], there["attempts"], there["subscriptions"]) == (4, 4, 1)


def test_every_group_has_a_start(settings: Settings) -> None:
    """Each group has an offset on each partition of all that it reads, so that none starts by accident."""
    there = topics.existing(topics.admin(settings))
    groups = topics.groups([*DEFAULT.split(), topics.DELIVERIES_REPLAY])
    assert set(groups) == {f"pipeline-{role}" for role in ("router", "sender", "recorder", "replayer", "delay")}
    for group, read in groups.items():
        for name in read:
            assert set(committed(settings, group, name)) == set(range(there[name])), (group, name)


def test_a_new_tier_is_made_with_its_start(longer: Settings) -> None:
    """A tier that the setting has gained is made, and its group starts at 0; the second time there is nothing to do."""
    assert any(line == f"! {TIER}: missing" for line in topics.check(longer))
    assert topics.create(longer, 3, 1) == [TIER]
    assert committed(longer, topics.DELAY_GROUP, TIER) == {0: 0, 1: 0, 2: 0}
    assert topics.create(longer, 3, 1) == []
    assert topics.check(longer) == topics.check(dataclasses.replace(longer, ladder=DEFAULT))


def test_a_flow_at_work_can_be_created_again(settings: Settings) -> None:
    """While a group has members, whose offsets nobody else may set, creating again is no failure and takes no time."""
    member = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "pipeline-replayer",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
        }
    )
    try:
        member.subscribe([topics.REPLAYS])
        until = time.monotonic() + PATIENCE_S
        while not member.assignment():
            assert time.monotonic() < until
            member.poll(0.05)
        began = time.monotonic()
        assert topics.create(settings, 4, 1) == []
        assert time.monotonic() - began < 5
    finally:
        member.close()


def test_a_prepared_cluster_passes(settings: Settings) -> None:
    """After `create` nothing is wrong, apart from what the brokers themselves promise."""
    assert [line for line in topics.check(settings) if "broker:" not in line] == []


def test_a_differing_policy_is_told(longer: Settings) -> None:
    """A property that is not as it should be is named, with what it is and what is expected."""
    topics.create(longer, 1, 1)
    admin = AdminClient({"bootstrap.servers": longer.bootstrap_servers})
    change = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TIER, incremental_configs=[change])
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    assert f"{TIER}: retention.ms is 1000, -1 is expected" in topics.check(longer)


def test_a_tier_without_append_times_is_a_failure(longer: Settings) -> None:
    """A tier whose timestamps are the writers' own would forward early or late: the flow cannot work so."""
    topics.create(longer, 1, 1)
    admin = AdminClient({"bootstrap.servers": longer.bootstrap_servers})
    change = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TIER, incremental_configs=[change])
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    assert f"! {TIER}: message.timestamp.type is CreateTime, LogAppendTime is expected" in topics.check(longer)


@pytest.mark.parametrize(
    ("name", "read"),
    [(tier, True) for tier in DEFAULT.split()]
    + [("retry-102ms", True), ("retry-dlq", False), ("retry-0s", False), ("xretry-5s", False), ("retry-5s-x", False)],
)
def test_the_delay_role_s_pattern_is_the_tiers_names(name: str, read: bool) -> None:  # noqa: FBT001 - expected value
    """What is subscribed to is what counts as a tier."""
    assert bool(re.match(topics.TIERS, name)) == read == bool(topics.delayed([name]))


def test_partitions_that_are_too_many_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control topic with more than one partition is a failure: its offsets would be no versions."""
    monkeypatch.setattr(topics, "CLOCK", new_topic(settings, 2))
    assert any(line.startswith("! ") and "2 partitions instead of 1" in line for line in topics.check(settings))


def test_unequal_partitions_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`attempts` must have as many partitions as `deliveries`."""
    monkeypatch.setattr(topics, "ATTEMPTS", new_topic(settings, 3))
    (line,) = (line for line in topics.check(settings) if "same number" in line)
    assert line.startswith("! deliveries and ")


def test_what_belongs_to_the_flow_is_known(settings: Settings) -> None:
    """Of a shared cluster's topics only the flow's own count, in its order, tiers that left the setting last."""
    there = ["x", "attempts", "retry-9h", "retry-5s", "events"]
    assert topics.known(settings, there) == ["events", "retry-5s", "attempts", "retry-9h"]


def test_no_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker there is an error, not an endless wait."""
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.3)
    with pytest.raises(Unreachable, match="no Kafka broker answers"):
        topics.create(Settings(bootstrap_servers="127.0.0.1:1"), 1, 1)
