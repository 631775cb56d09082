"""Hand-over: a delivery whose request takes too long is carried on by another record, so that its offset is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

import structlog

from pipeline.flow.deliver import OutgoingRequest
from pipeline.flow.retry import Ladder
from pipeline.ports import Outgoing, Publisher
from pipeline.workers.carriage import to_headers
from pipeline.workers.repeats import Copy, Repeats

AFTER_S = 20.0
"""A request in flight for longer is handed over. Products allow up to 60 seconds (inspectorio)."""
_ASIDE_S = 0.25
"""A request in flight for longer leaves its place to others: what waits for it waits for one endpoint alone."""
_SWEEP_S = 0.25
_REPORTS_S = 5.0
"""A partition that is given up waits for its carriers' reports this long, on top of what its requests had."""
_LOOK_S = 0.01
_LATE_MS = 1_000
"""A carrier falls due so long after the deadline at least: the attempt it stands for must be there to be found."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HandOver:
    """Writes the carriers of what is in flight for more than `after_s`, or of partitions that are given up.

    The carrier is the delivery itself, unchanged, on the ladder with the rest of its deadline as wait; its headers name
    the hop that it stands for. It is the delivery's only carrier from then on: the end of the request writes only the
    attempt, and whoever gets the carrier carries the attempt's `next` out. When the carrier is reported durable, the
    record's offset and its place among the answering are free.
    """

    publisher: Publisher
    repeats: Repeats
    ladder: Ladder
    after_s: float = AFTER_S

    async def run(self) -> NoReturn:
        """Look four times a second, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Set aside what takes long, hand over what takes too long; return when that is durable."""
        now_s, sent = time.monotonic(), [copy for copy in self.repeats.under_way if copy.request is not None]
        for copy in sent:
            if copy.since_s <= now_s - _ASIDE_S:
                copy.work.answered()
        await self._hand_over(copy for copy in sent if copy.since_s <= now_s - self.after_s)

    async def give_up(self, partitions: Collection[tuple[str, int]]) -> None:
        """Hand over every request of these partitions; return when that is durable, or has taken too long.

        Answers that are being written down are waited for as well.
        """
        try:
            async with asyncio.timeout(_REPORTS_S):
                await self._hand_over(self._of(partitions))
                while any(copy.since_s and not copy.carried for copy in self._of(partitions)):  # noqa: ASYNC110 - rare
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            _log.warning("not handed over in time: the next owner sends again", partitions=sorted(partitions))

    def _of(self, partitions: Collection[tuple[str, int]]) -> list[Copy]:
        ours = (copy for copy in self.repeats.under_way if (copy.record.topic, copy.record.partition) in partitions)
        return [copy for copy in ours if not copy.work.lost]

    async def _hand_over(self, copies: Iterable[Copy]) -> None:
        handed = [
            self._one(copy, self.publisher.publish(self._carrier(copy, copy.request)))
            for copy in copies
            if copy.request and not copy.handed_over and not copy.work.lost
        ]
        if handed:
            await asyncio.gather(*handed)
            _log.info("handed over", requests=len(handed))

    async def _one(self, copy: Copy, report: Awaitable[object]) -> None:
        await report
        self.repeats.carry(copy)
        copy.work.answered()
        copy.work.release()

    def _carrier(self, copy: Copy, request: OutgoingRequest) -> Outgoing:
        copy.handed_over = True
        rest_ms = (request.deadline_s - (time.monotonic() - copy.since_s)) * 1000
        wait_ms = self.ladder.round_up(max(int(rest_ms), 0) + _LATE_MS)
        carriage = replace(copy.carriage, hop=copy.carriage.hop + 1, wait_ms=wait_ms, stands_for=copy.carriage.hop)
        topic = self.ladder.next_tier(wait_ms).topic
        return Outgoing(topic, copy.record.key, copy.record.value, to_headers(carriage))
