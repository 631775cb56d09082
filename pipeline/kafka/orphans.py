"""Partitions that nobody has, although their group takes itself for settled.

Cooperative rebalancing moves a partition in two rounds: its owner lets go of it, then somebody gets it. A static member
that dies between the two and comes back is given what it had without a round (KIP-345), and what it was to let go of
stays with nobody until the next member comes or goes.
"""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.kafka.age import partitions_of
from pipeline.kafka.clients import client_config
from pipeline.kafka.source import Source
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_EVERY_S = 5.0
"""A round takes less, so what has no owner in two looks has none."""
_ASK_S = 10.0
_VERSION, _LENGTH, _COUNT = Struct(">h"), Struct(">h"), Struct(">i")
_log = structlog.get_logger()


class Orphans:
    """Looks for partitions without an owner. Of a group's members the first by id has to see to them.

    It asks as old clients do: newer requests for a group (`describe_consumer_groups`) make librdkafka 2.16 end the
    whole process when the broker dies meanwhile.
    """

    def __init__(self, settings: Settings, source: Source) -> None:
        config: dict[str, Any] = client_config(settings)
        self._client, self._source = AdminClient(config), source

    async def run(self, member: Callable[[], str], rejoin: Callable[[], None]) -> NoReturn:
        """Look every few seconds, until cancelled.

        `member` is this member's id; `rejoin` makes it leave its group and come back.
        """
        before = frozenset[Partition]()
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                found = await asyncio.to_thread(self._look, member())
            except (KafkaException, ValueError):  # who cannot reach Kafka cannot tell, nor do anything about it
                found = frozenset()
            if found & before:
                _log.warning("partitions without an owner: sharing out anew", partitions=sorted(found))
                rejoin()
                found = frozenset()
            before = found

    def _look(self, member: str) -> frozenset[Partition]:
        group: Any
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            (group,) = self._client.list_groups(self._source.group, timeout=_ASK_S)
        if group.state != "Stable" or member != min((one.id for one in group.members), default=None):
            return frozenset()
        owned = {partition for one in group.members for partition in assigned(one.assignment)}
        read = filter(self._is_read, self._client.list_topics(timeout=_ASK_S).topics)
        return frozenset(partitions_of(self._client, read)) - owned

    def _is_read(self, topic: str) -> bool:
        return any(re.match(name, topic) if name.startswith("^") else name == topic for name in self._source.topics)


def assigned(assignment: bytes) -> Iterator[Partition]:
    """What a member was given, as the consumer protocol writes it (KIP-429): version, topics, the assignor's own."""
    if not assignment:
        return
    at = _VERSION.size + _COUNT.size
    for _ in range(_COUNT.unpack_from(assignment, _VERSION.size)[0]):
        (length,) = _LENGTH.unpack_from(assignment, at)
        topic = assignment[at + _LENGTH.size : at + _LENGTH.size + length].decode()
        at += _LENGTH.size + length
        (count,) = _COUNT.unpack_from(assignment, at)
        at += _COUNT.size * (1 + count)
        for (number,) in _COUNT.iter_unpack(assignment[at - _COUNT.size * count : at]):
            yield topic, number
