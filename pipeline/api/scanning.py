"""Plans over a real cluster: the window is read from `events` itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pipeline.api.deps import Directory
from pipeline.api.log.asking import AskedLog
from pipeline.api.log.records import Records
from pipeline.api.planning import Plans, Told
from pipeline.api.targets import with_target
from pipeline.flow.replay import Outcome, Replay, Span
from pipeline.flow.window import Gap
from pipeline.kafka import windows
from pipeline.kafka.scan import Scan
from pipeline.kafka.standing import Ends, Recorded
from pipeline.kafka.topics import ATTEMPTS, DELIVERIES, EVENTS
from pipeline.settings import Settings
from pipeline.store.targets import not_ours
from pipeline.workers.planning import Parts, Plan, plan


def plans(settings: Settings, records: Records, log: AskedLog, directory: Directory) -> Plans:
    """What finds windows of the cluster's topics, and counts what replays of `events` would send."""
    codec = records.codec

    def scan(spans: Sequence[Span]) -> Scan:
        return Scan(settings, EVENTS, spans, head=codec.heads["event"])

    def rate(tenant: str, webhook: str) -> float | None:
        held = directory.webhook(tenant, webhook)
        return None if held is None else held.rate

    async def learn(values: Sequence[bytes | None]) -> None:
        await codec.learn(not_ours(codec, values))

    async def count(order: Replay, gap: Gap | None, told: Told) -> Plan:
        parts = Parts(codec, learn, with_target(records.subscribers, order), scan, log, rate)
        if order.outcome is not Outcome.ALL:
            parts = replace(parts, recorded=Recorded(settings, Ends(settings), (DELIVERIES, ATTEMPTS)))
        return await plan(parts, order, told, gap)

    return Plans(partial(windows.resolve, settings), count)
