"""The topics: their policies, how they are made, and what a cluster must offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType
from confluent_kafka.cimpl import NewTopic

from pipeline.errors import PipelineError, Unreachable
from pipeline.flow.retry import Ladder, topic_span_ms
from pipeline.kafka.clients import client_config
from pipeline.kafka.groups import offsets_of
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

EVENTS, DELIVERIES, DELIVERIES_REPLAY = "events", "deliveries", "deliveries-replay"
ATTEMPTS, DEAD_LETTERS, CLOCK = "attempts", "retry-dlq", "clock"
SUBSCRIPTIONS, TENANTS, KEYS, ENDPOINT_STATE = "subscriptions", "tenants", "keys", "endpoint-state"
CANCELS, WEBHOOK_TESTS, REPLAYS, REPLAY_PROGRESS = "cancels", "webhook-tests", "replays", "replay-progress"
AUDIT = "audit"
CONTROL_TOPICS = (SUBSCRIPTIONS, TENANTS, KEYS, WEBHOOK_TESTS, CANCELS, REPLAYS)
"""What the API writes and sees in its own view."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "pipeline-router": (EVENTS,),
    "pipeline-sender": (DELIVERIES,),
    "pipeline-recorder": (EVENTS, DELIVERIES, ATTEMPTS, DEAD_LETTERS, AUDIT),
    "pipeline-replayer": (REPLAYS,),
}
"""Which group reads which topics; what the delay role's group reads depends on the tiers that there are."""

ROUTED = (DELIVERIES, DELIVERIES_REPLAY)
"""What a router may write to, of the flow's topics."""

DELAY_GROUP = "pipeline-delay"

TIERS = "^retry-[1-9][0-9]*(ms|s|m|h)$"
"""How the delay role subscribes to every tier that exists, also one that is made meanwhile or leaves the setting."""

_MIB = 1024 * 1024
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_TIMEOUT_S = 30.0
_IN_SYNC = 2


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's name, policy (Kafka's own properties) and number of partitions (None: the deployment's choice)."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None


_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(_DAY_MS),  # what has been removed is gone then, however little else is written
    "segment.ms": str(_DAY_MS),
}
_KEPT = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(4 * _MIB)}
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


def catalogue(ladder: Ladder) -> tuple[Topic, ...]:
    """Every topic of the flow, in the order of the flow."""
    waits = tuple(Topic(tier.topic, {**_KEPT, **_APPEND_TIME}) for tier in ladder.tiers)
    return (
        Topic(EVENTS, {"retention.ms": str(14 * _DAY_MS), "max.message.bytes": str(_MIB)}),
        *(Topic(name, _COMPACTED, partitions=1) for name in (SUBSCRIPTIONS, TENANTS, KEYS)),
        *(Topic(name, _COMPACTED, partitions=1) for name in (CANCELS, WEBHOOK_TESTS)),
        *(Topic(name, _COMPACTED) for name in (REPLAYS, REPLAY_PROGRESS, ENDPOINT_STATE)),
        Topic(CLOCK, {"retention.ms": str(_HOUR_MS), "segment.ms": str(_HOUR_MS // 4), **_APPEND_TIME}, partitions=1),
        Topic(DELIVERIES, _KEPT),
        Topic(DELIVERIES_REPLAY, _KEPT),
        *waits,
        Topic(DEAD_LETTERS, {"retention.ms": str(30 * _DAY_MS), "max.message.bytes": str(8 * _MIB)}),
        Topic(ATTEMPTS, {"retention.ms": str(30 * _DAY_MS), "max.message.bytes": str(4 * _MIB)}),
        Topic(AUDIT, {"retention.ms": str(365 * _DAY_MS)}, partitions=1),
    )


def admin(settings: Settings) -> AdminClient:
    """An admin client, known to reach a broker. Raises `Unreachable`."""
    config: dict[str, Any] = client_config(settings)
    client = AdminClient(config)
    existing(client)
    return client


def existing(client: AdminClient) -> dict[str, int]:
    """The cluster's topics and how many partitions each has. Raises `Unreachable` when no broker answers."""
    try:
        found = client.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise Unreachable(f"no Kafka broker answers: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in found.items()}


def create(settings: Settings, partitions: int, replication: int) -> list[str]:
    """Make the topics that are missing; for each, commit offset 0 for every group that reads it.

    Returns the names made.
    """
    client = admin(settings)
    there = existing(client)
    missing = [topic for topic in catalogue(Ladder.parse(settings.ladder)) if topic.name not in there]
    wanted = [NewTopic(t.name, t.partitions or partitions, replication, config=dict(t.config)) for t in missing]
    if wanted:
        for name, answer in client.create_topics(wanted, request_timeout=_TIMEOUT_S).items():
            _await_made(name, answer)
    ours = {name: there[name] for name in known(settings, there)}
    new = {topic.name: topic.partitions or partitions for topic in missing} | _empty(client, ours)
    for group, read in groups(new).items():
        if not (group == DELAY_GROUP and members(client, group)):
            _start(settings, group, [(name, number) for name in read if name in new for number in range(new[name])])
    return [topic.name for topic in missing]


def _empty(client: AdminClient, there: Mapping[str, int]) -> dict[str, int]:
    """Topics that hold nothing: where an earlier run was cut before its commits, it is as clear as on new ones."""
    partitions = [TopicPartition(name, p) for name, count in there.items() for p in range(count)]
    ends = client.list_offsets({p: OffsetSpec.latest() for p in partitions}) if partitions else {}
    used = {p.topic for p, end in ends.items() if end.result(_TIMEOUT_S).offset > 0}
    return {name: count for name, count in there.items() if name not in used}


def _await_made(name: str, answer: Future[None]) -> None:
    try:
        answer.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise PipelineError(f"topic {name} cannot be made: {error.args[0].str()}") from error


def _start(settings: Settings, group: str, partitions: Iterable[Partition]) -> None:
    """Offset 0 where the group has none, so that it never starts at a place by accident."""
    with offsets_of(settings, group) as offsets:
        held = offsets.committed(partitions)
        offsets.commit({partition: 0 for partition in partitions if partition not in held})


def members(client: AdminClient, group: str) -> int:
    """How many members the group has: while there are any, nobody else may set its offsets."""
    return len(client.describe_consumer_groups([group], request_timeout=_TIMEOUT_S)[group].result().members)


def unbegun(settings: Settings) -> tuple[str, ...]:
    """Topics for which the delay group lacks an offset that it should have: all of its own if it has none at all.

    A topic that is new to a group at work is read from its beginning: nothing of it has been forwarded.
    """
    counts = existing(admin(settings))
    names = forwarded(counts)
    with offsets_of(settings, DELAY_GROUP) as offsets:
        return () if offsets.committed((name, n) for name in names for n in range(counts[name])) else names


def groups(topics: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every group and the topics that it reads, given the topics that there are."""
    return {**GROUPS, DELAY_GROUP: forwarded(topics)}


def forwarded(topics: Iterable[str]) -> tuple[str, ...]:
    """What the delay role reads, of the topics that there are: the tiers, and what replays have written."""
    there = set(topics)
    return (*(name for name in (DELIVERIES_REPLAY,) if name in there), *delayed(there))


def delayed(topics: Iterable[str]) -> tuple[str, ...]:
    """The tiers: every `retry-<wait>` that exists (also one that left the setting)."""
    return tuple(sorted(name for name in topics if topic_span_ms(name) is not None))


def known(settings: Settings, there: Iterable[str]) -> list[str]:
    """Those of the topics that there are which belong to the flow, in its order; tiers that left the setting last."""
    own = [topic.name for topic in catalogue(Ladder.parse(settings.ladder))]
    present = set(there)
    return [name for name in own if name in present] + [name for name in delayed(present) if name not in own]


def check(settings: Settings) -> list[str]:
    """What differs from the catalogue, a line each; empty when all is well. Lines that start with `!` are failures."""
    client = admin(settings)
    there = existing(client)
    wanted = catalogue(Ladder.parse(settings.ladder))
    lines = [f"! {t.name}: missing" for t in wanted if t.name not in there]
    lines += [
        f"! {t.name}: {there[t.name]} partitions instead of {t.partitions}"
        for t in wanted
        if t.partitions and there.get(t.name, t.partitions) != t.partitions
    ]
    lines += _uneven({name: count for name, count in there.items() if name in (DELIVERIES, ATTEMPTS)})
    return lines + _differing(client, [t for t in wanted if t.name in there]) + _broker(client)


def _uneven(counts: Mapping[str, int]) -> list[str]:
    """Attempts are written to the number of the partition that the delivery was read from: the counts must agree."""
    if len(set(counts.values())) > 1:
        return [f"! {DELIVERIES} and {ATTEMPTS}: {counts} partitions; they must have the same number"]
    return []


def _differing(client: AdminClient, topics: list[Topic]) -> list[str]:
    asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics])
    held = {resource.name: future.result() for resource, future in asked.items()}
    return [
        f"{'! ' * (name in _APPEND_TIME)}{topic.name}: {name} is {held[topic.name][name].value}, {value} is expected"
        for topic in topics
        for name, value in topic.config.items()
        if name in held[topic.name] and held[topic.name][name].value != value
    ]


def _broker(client: AdminClient) -> list[str]:
    """What the brokers promise: offsets outlive the longest retention, and a lost broker loses nothing."""
    brokers = client.list_topics(timeout=_TIMEOUT_S).brokers
    resource = ConfigResource(ResourceType.BROKER, str(min(brokers)))
    held = {name: entry.value for name, entry in client.describe_configs([resource])[resource].result().items()}
    lines = []
    if int(held.get("offsets.retention.minutes", "0")) < 30 * 24 * 60:
        lines.append("! broker: offsets.retention.minutes is below 30 days: a group's place could be forgotten")
    if len(brokers) > 1 and int(held.get("min.insync.replicas", "1")) < _IN_SYNC:
        lines.append("broker: min.insync.replicas is below 2: the loss of one broker can lose records")
    if held.get("unclean.leader.election.enable") == "true":
        lines.append("! broker: unclean.leader.election.enable is true: an election can lose records")
    return lines
