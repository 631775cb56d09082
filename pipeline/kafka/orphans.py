"""Partitions that nobody has, although their group takes itself for settled.

Cooperative rebalancing moves a partition in two rounds: its owner lets go of it, then somebody gets it. A static member
that dies between the two and comes back is given what it had without a round (KIP-345), and what it was to let go of
stays with nobody until the next member comes or goes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.kafka.age import partitions_of, value
from pipeline.kafka.clients import client_config
from pipeline.kafka.source import Source
from pipeline.kafka.tracker import Partition
from pipeline.settings import Settings

_EVERY_S = 5.0
"""A round takes less, so what has no owner in two looks has none."""
_ASK_S = 10.0
_log = structlog.get_logger()


class Orphans:
    """Looks for partitions without an owner. Of a group's members the first by name has to see to them."""

    def __init__(self, settings: Settings, source: Source) -> None:
        config: dict[str, Any] = client_config(settings)
        self._client, self._source = AdminClient(config), source

    async def run(self, rejoin: Callable[[], None]) -> NoReturn:
        """Look every few seconds, until cancelled; `rejoin` makes this member leave its group and come back."""
        before = frozenset[Partition]()
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                found = await asyncio.to_thread(self._look)
            except (KafkaException, TimeoutError):  # who cannot reach Kafka cannot tell, nor do anything about it
                found = frozenset()
            if found & before:
                _log.warning("partitions without an owner: sharing out anew", partitions=sorted(found))
                rejoin()
                found = frozenset()
            before = found

    def _look(self) -> frozenset[Partition]:
        group = value(
            self._client.describe_consumer_groups([self._source.group], request_timeout=_ASK_S)[self._source.group]
        )
        names = [member.group_instance_id or "" for member in group.members]
        if group.state is not ConsumerGroupState.STABLE or self._source.instance != min(names, default=None):
            return frozenset()
        owned = {(p.topic, p.partition) for member in group.members for p in member.assignment.topic_partitions}
        read = filter(self._is_read, self._client.list_topics(timeout=_ASK_S).topics)
        return frozenset(partitions_of(self._client, read)) - owned

    def _is_read(self, topic: str) -> bool:
        return any(re.match(name, topic) if name.startswith("^") else name == topic for name in self._source.topics)
