"""Messages told apart by their headers, as quickly as can be: a replay's plan looks at every one of its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Message

from pipeline.kafka.messages import as_record, headers_of
from pipeline.workers.sifting import Fate, Names, Sifted, Tally, is_foreign, named

_OWN = 2
"""The pipeline's own producer writes `tenant` and `type`, in this order, and nothing else."""


class Sorting:
    """Sorts batches of one scan. `head` is what the value of a record of our own schema begins with.

    Only such a record is counted undecoded: of another one nobody knows whether it can be read. `held_back` are the
    messages whose names had no fate yet.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.held_back: list[Message] = []

    def __call__(self, messages: Sequence[Message], fates: Mapping[Names, Fate]) -> Sifted:
        """What was held back, then these."""
        waiting, self.held_back = self.held_back, []
        made = Sifted()
        for part in (waiting, messages):
            self._sort(part, fates, made)
        made.scanned = len(waiting) + len(messages) - len(self.held_back)
        return made

    def _sort(self, messages: Sequence[Any], fates: Mapping[Names, Fate], made: Sifted) -> None:
        """The loop: two microseconds for each message are most of what a plan takes."""
        head, counted, skip, count = self._head, made.counted, Fate.SKIP, Fate.COUNT
        for message in messages:
            headers = headers_of(message)
            own = len(headers) == _OWN and headers[0][0] == "tenant" and headers[1][0] == "type"
            names = (headers[0][1], headers[1][1]) if own else named(headers)
            fate = Fate.READ if names is None else fates.get(names)
            if fate is skip:
                continue
            if fate is None:
                self.held_back.append(message)
                made.unknown.add(names)  # type: ignore[arg-type]  # one without names has a fate
                continue
            value = message.value()
            if fate is count and value is not None and value.startswith(head) and (own or not is_foreign(headers)):
                _count(counted, names, len(value), message.timestamp()[1])
            else:
                made.read.append(as_record(message))


def _count(counted: dict[Any, Tally], names: Names | None, size: int, at_ms: int) -> None:
    tally = counted.get(names)
    if tally is None:
        counted[names] = Tally(1, size, at_ms, at_ms)
        return
    tally.events += 1
    tally.bytes += size
    if at_ms < tally.oldest_ms:
        tally.oldest_ms = at_ms
    elif at_ms > tally.newest_ms:
        tally.newest_ms = at_ms
