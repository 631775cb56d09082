"""What a feed reads, and what the thread that reads it needs of the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.kafka.intake import Intake
from pipeline.kafka.tracker import Partition, Tracker

SESSION_MS = 10_000
SHORT_FETCHES: Mapping[str, object] = {
    "fetch_wait_max_ms": 50,
    "fetch_queue_backoff_ms": 20,
    "fetch_message_max_bytes": 1_048_576,
    "queued_min_messages": 2_000,
    "queued_max_messages_kbytes": 32_768,
    "topic_metadata_refresh_interval_ms": 5_000,
}
"""For a feed that pauses partitions: one that is read on is asked for in the next fetch, so the one before must not
wait long; what has been fetched of a paused partition is thrown away, so it should be little. New tiers are to be
noticed too."""
GATHERING: Mapping[str, object] = {**SHORT_FETCHES, "fetch_min_bytes": 1_048_576}
"""The same for records that wait for seconds: what comes within one fetch's wait comes together."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a feed reads, as a member of which group, under which instance id.

    `starts` runs in the poller's thread when partitions have been assigned: where those of them are to be read from
    that are not to go on at the group's offset. `ask` runs there after every poll; `paused` says which partitions not
    to read at present. A topic that begins with `^` is a pattern. `properties` are the consumer's own. `share` is how
    many records of one partition the stage has at the same time, at most; 0: all that are read. `give_up` is called, in
    the event loop, for partitions that are about to go: it hands over what is still in flight, and returns within a few
    seconds.
    """

    group: str
    instance: str
    topics: tuple[str, ...]
    starts: Callable[[Sequence[Partition]], Mapping[Partition, int]] = lambda _: {}
    ask: Callable[[], dict[Partition, int]] = dict
    paused: Callable[[], frozenset[Partition]] = frozenset
    properties: Mapping[str, object] = field(default_factory=dict)
    share: int = 0
    give_up: Callable[[Collection[Partition]], Awaitable[None]] | None = None
    session_ms: int = SESSION_MS


class Owner(Protocol):
    """What the thread needs of the feed; all of it runs in the event loop."""

    tracker: Tracker
    intake: Intake

    def fail(self, error: BaseException) -> None:
        """The process must end."""

    async def take(self, partitions: list[Partition]) -> None:
        """These have been assigned."""

    async def close(self, partitions: list[Partition]) -> None:
        """These are being revoked: returns when nothing of them is in flight, or it has waited long enough."""

    async def let_go(self, partitions: list[Partition], *, lost: bool) -> None:
        """These are gone."""

    async def due(self) -> dict[Partition, int]:
        """What is to be committed."""

    async def in_flight(self) -> int:
        """How many records the feed waits for before it leaves."""

    async def in_doubt(self) -> dict[Partition, int | None]:
        """The floors of the partitions that nothing of is started at present."""

    async def reopen(self, doubt: int) -> dict[Partition, int]:
        """Start again what that doubt had closed; where the partitions are to be read again from."""
