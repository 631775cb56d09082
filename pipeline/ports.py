"""What the workers need of the world: each a small protocol, declared here by those who use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.flow.audit import Audit
from pipeline.flow.deadletter import DeadLetter
from pipeline.flow.deliver import Attempt, Delivery, Outcome, OutgoingRequest
from pipeline.flow.event import Event
from pipeline.flow.filters import Content
from pipeline.flow.health import EndpointState
from pipeline.flow.history import Entry, Position
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.profiles import Prepared, Profile


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read: raw bytes, nothing decoded. `timestamp_ms` is what the topic's timestamp type says."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


UNREADABLE: tuple[tuple[str, bytes], ...] = (("?", b""),)
"""The headers of a record of which one's name is not UTF-8: the client library can tell none of them."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to write. Without a partition the key chooses one."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None

    @property
    def size(self) -> int:
        """Roughly its bytes on the broker."""
        return (
            len(self.value or b"")
            + len(self.key or b"")
            + sum(len(name) + len(value) + 8 for name, value in self.headers)
            + 128
        )


class Publisher(Protocol):
    """Writes records durably."""

    def publish(self, record: Outgoing) -> Awaitable[object]:
        """Hand the record over at once; what is returned is done when the broker has reported it durable."""


class Work(Protocol):
    """One record that is being worked on, as those see it who answer for its offset."""

    @property
    def open(self) -> bool:
        """Whether a request may begin: no more once its partition is given up or lost."""

    @property
    def lost(self) -> bool:
        """Whether its partition is no longer this process's: attempts are still written, effects are not."""

    @property
    def doubtful(self) -> bool:
        """Whether this process has stood still: its partition may be another's, until Kafka says that it is not."""

    def answered(self) -> None:
        """Nobody is kept waiting by it any more: its request has ended, takes long, or waits for its own endpoint."""

    def goes_on(self) -> None:
        """Work on it takes long, and is not stuck: who looks for what is stuck counts from here."""

    def release(self) -> None:
        """All that the record caused is durable, or another durable record carries it: its offset may be passed."""


class Codec(Protocol):
    """Records of the flow to and from bytes. Decoding raises `Undecodable` for what can never be read."""

    def event(self, record: Record) -> Event:
        """Of a record of `events`."""

    def named_event(self, record: Record) -> Event:
        """The same for who needs no data."""

    def named_in(self, record: Record) -> bytes | None:
        """What `named_event` decodes of the record's value; None: nothing."""

    def delivery(self, value: bytes | None) -> Delivery:
        """Of a record of `deliveries` or a tier."""

    def attempt(self, value: bytes | None) -> Attempt:
        """Of a record of `attempts`."""

    def dead_letter(self, value: bytes | None) -> DeadLetter:
        """Of a record of `retry-dlq`."""

    def decode_audit(self, value: bytes | None) -> Audit:
        """Of a record of `audit`."""

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """For `deliveries` or a tier."""

    def encode_attempt(self, attempt: Attempt) -> bytes:
        """For `attempts`."""

    def encode_dead_letter(self, letter: DeadLetter) -> bytes:
        """For `retry-dlq`."""

    def encode_event(self, event: Event) -> bytes:
        """For `events`: what the pipeline itself has to tell."""

    def decode_endpoint_state(self, value: bytes | None) -> EndpointState:
        """Of a record of `endpoint-state`."""

    def encode_endpoint_state(self, state: EndpointState) -> bytes:
        """For `endpoint-state`."""


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A tenant with its product and the webhooks of it that are active.

    `wanting` gives the ids of those that want a type. `unreadable` are those of which nothing can be told. `contents`
    has the filters and projections of those that have some.
    """

    tenant: Tenant
    profile: Profile
    wanting: Callable[[str], tuple[str, ...]]
    unreadable: tuple[str, ...] = ()
    contents: Mapping[str, Content] = field(default_factory=dict)


class Subscribers(Protocol):
    """Who wants what, as the views have it.

    `offset` is how far the subscriptions have been read (the offset of the next record).
    """

    @property
    def offset(self) -> int:
        """How far the subscriptions have been read."""

    def of(self, tenant: str) -> Tenancy | None:
        """The tenant; None if it is not known. Raises `Undecodable` when its record cannot be used."""


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook ready to be sent to: its record, its product, and what its requests have in common, secrets opened."""

    subscription: Subscription
    profile: Profile
    prepared: Prepared


class Targets(Protocol):
    """Webhooks for the sender."""

    def find(self, tenant: str, webhook: str) -> Target | None:
        """The webhook; None if, as far as the view has read, there is none to send to."""

    def reached(self, subscriptions_offset: int) -> Awaitable[None]:
        """Wait until the view of the subscriptions has been read up to this offset."""


class Client(Protocol):
    """Sends one request through the egress guard. An endpoint's failure is a value; it never raises for one."""

    def send(self, request: OutgoingRequest) -> Awaitable[Outcome]:
        """Return how it ended, within the request's deadline."""


class Clock(Protocol):
    """Wall time in milliseconds since the epoch."""

    def __call__(self) -> int:
        """Now."""


class Log(Protocol):
    """The delivery log, as it is written."""

    def write(self, entries: Sequence[Entry], positions: Sequence[Position] = ()) -> None:
        """Take them in, in one transaction; `positions` is how far their topics have then been read.

        The same entries in any order, however often, come to the same log. It blocks. Raises `Unreachable` when the
        database does not answer: nothing was written, or all was; write them again.
        """

    def positions(self) -> Mapping[tuple[str, int], int]:
        """How far each (topic, partition) has been read into it: the offset of its next record.

        It blocks. Raises `Unreachable`.
        """
