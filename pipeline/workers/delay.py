"""The delay role's decision: where a record that has waited its tier goes next. The record is never decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import Reason
from pipeline.flow.retry import Ladder
from pipeline.ports import Outgoing, Record
from pipeline.workers.carriage import carried, to_headers
from pipeline.workers.dead import Undertaker

DELIVERIES = "deliveries"


@dataclass(frozen=True, slots=True)
class Delay:
    """A record that has waited `waited_ms` in; the same bytes out, on the next tier or on `deliveries`."""

    ladder: Ladder
    undertaker: Undertaker

    def __call__(self, record: Record, waited_ms: int) -> Outgoing:
        """The record to write. Every writing raises `hop`."""
        try:
            carriage = carried(record)
        except Undecodable as error:
            return self.undertaker.bury(record, Reason(error.reason), str(error))
        rest = max(carriage.wait_ms - waited_ms, 0)
        topic = self.ladder.next_tier(rest).topic if rest else DELIVERIES
        return Outgoing(
            topic, record.key, record.value, to_headers(replace(carriage, hop=carriage.hop + 1, wait_ms=rest))
        )
