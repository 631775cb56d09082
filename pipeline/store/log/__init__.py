"""The delivery log: what the flow has seen, in SQLite or PostgreSQL, to be listed and looked up.

It can be made again from the topics at any time. Everything here blocks: call it from a thread.
"""

from __future__ import annotations

from pipeline.store.log.delivery_log import DeliveryLog, open_log
from pipeline.store.log.letters import Group
from pipeline.store.log.opening import log_url
from pipeline.store.log.rows import (
    AuditFilter,
    DeadCount,
    DeadFilter,
    DeadRow,
    DeliveryFilter,
    DeliveryRow,
    EventFilter,
    EventRow,
)

__all__ = [
    "AuditFilter",
    "DeadCount",
    "DeadFilter",
    "DeadRow",
    "DeliveryFilter",
    "DeliveryLog",
    "DeliveryRow",
    "EventFilter",
    "EventRow",
    "Group",
    "log_url",
    "open_log",
]
