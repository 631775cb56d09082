"""One place for the properties of librdkafka's clients."""

from __future__ import annotations

import logging
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.faults import Faults
from pipeline.settings import Settings

_log = logging.getLogger("librdkafka")
_ASK_S = 10.0

_RECONNECT_MS = 1_000
"""A client looks for a broker that is gone once a second: by default, after an outage of ten seconds, every ten."""

MAX_MESSAGE = 9 * 1024 * 1024
"""Above the largest topic's limit (retry-dlq, 8 MiB), so that the topic decides, not the client."""


def client_config(settings: Settings, **properties: object) -> dict[str, object]:
    """The properties of any client: the operator's `PIPELINE_KAFKA_*` last, so that they win.

    Names use `_` for `.`; callbacks keep their Python names.
    """
    settings.require("bootstrap_servers")
    own = {name if callable(value) else name.replace("_", "."): value for name, value in properties.items()}
    base = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "pipeline",
        "logger": _log,
        "reconnect.backoff.max.ms": _RECONNECT_MS,
    }
    return {**base, **own, **settings.kafka}


def producer_config(settings: Settings, **properties: object) -> dict[str, object]:
    """The properties of every producer: durable, in order, partitioned as the Java and Node clients do."""
    safe = {
        "acks": "all",
        "enable_idempotence": True,
        "partitioner": "murmur2_random",
        "linger_ms": 2,
        "batch_size": 262_144,
        "message_max_bytes": MAX_MESSAGE,
        "queue_buffering_max_messages": 500_000,
        "queue_buffering_max_kbytes": 262_144,
    }
    controlled = {} if "transactional_id" in properties else Faults.of(settings).producer
    return client_config(settings, **{**safe, **properties, **controlled})


def consumer_config(settings: Settings, **properties: object) -> dict[str, object]:
    """The properties of every consumer: committed records only, no commit but ours."""
    safe = {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "enable_auto_offset_store": False,
        "fetch_message_max_bytes": MAX_MESSAGE,
        "queued_max_messages_kbytes": 65_536,
        "allow_auto_create_topics": False,
    }
    return client_config(settings, **{**safe, **properties})


def learn_leaders(client: AdminClient | Consumer) -> None:
    """Ask anew who leads the partitions.

    A client that only asks, and has seen a broker before its restart, is refused with "leader epoch is older than
    broker epoch", and would go on to be refused for minutes: of itself it does not look for leaders again.
    """
    with suppress(KafkaException):
        client.list_topics(timeout=_ASK_S)
