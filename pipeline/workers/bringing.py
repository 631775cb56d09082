"""A window of dead letters brought back: what each of them comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import Undecodable
from pipeline.flow.deadletter import DeadLetter, LetterState
from pipeline.flow.history import DeadSeen
from pipeline.flow.replay import Replay
from pipeline.ports import Codec, Record
from pipeline.workers.matching import Learn, Made, bound_of
from pipeline.workers.redrive import Redrive, Unredrivable, round_in, wanted

Standing = Mapping[str, tuple[DeadSeen, LetterState]]
"""Dead letters by their ids, as the delivery log has them."""


@dataclass(frozen=True, slots=True)
class Bringing:
    """Implements `pipeline.workers.matching.Making` for dead letters, as they stand in the delivery log now.

    What comes of one letter stays together: the letter says that it was redriven once all of that is durable.
    """

    order: Replay
    codec: Codec
    redrive: Redrive
    learn: Learn
    standing: Callable[[Sequence[str]], Awaitable[Standing]]

    async def __call__(self, records: Sequence[Record]) -> list[Made]:
        """Raises `Unreachable`."""
        await self.learn([record.value for record in records])
        read = [self._letter(record) for record in records]
        ids = [letter.id for letter in read if letter is not None]
        standing = await self.standing(ids)
        return [await self._made(record, letter, standing) for record, letter in zip(records, read, strict=True)]

    def _letter(self, record: Record) -> DeadLetter | None:
        try:
            return self.codec.dead_letter(record.value)
        except Undecodable:
            return None

    async def _made(self, record: Record, letter: DeadLetter | None, standing: Standing) -> Made:
        if letter is None:
            return Made(record, unreadable=True)
        held = standing.get(letter.id)
        if held is None or not wanted(self.order, *held) or self._comes_later(record, held[0]):
            return Made(record)
        redriven = await self.redrive(letter, round_in(self.order, letter))
        if isinstance(redriven, Unredrivable):
            return Made(record, unreadable=True)
        by = letter.id if letter.delivery is None else None
        bound = tuple(bound_of(out, record, by) for out in redriven.deliveries)
        return Made(record, bound, letter=redriven.letter)

    def _comes_later(self, record: Record, seen: DeadSeen) -> bool:
        """Whether the letter was written twice, and the log knows it by another place of the window."""
        if (seen.partition, seen.offset) == (record.partition, record.offset):
            return False
        return any(one.partition == seen.partition and one.start <= seen.offset < one.end for one in self.order.window)
