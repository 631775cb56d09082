"""The writer of control records: tenants, webhooks, keys and the like, all or nothing, by one process at a time.

It holds the transactional id `pipeline-control`; whoever takes it later fences the one before (KIP-98). A write is
answered when it is committed and this process's own view holds it, so that a check made under the same lock afterwards
sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.errors import Fenced, PipelineError, Unreachable
from pipeline.flow.audit import Audit
from pipeline.kafka.changes import Change, ControlRecord, Encoder, record_of
from pipeline.kafka.clients import producer_config
from pipeline.kafka.topics import AUDIT
from pipeline.settings import Settings

TRANSACTIONAL_ID = "pipeline-control"

_INIT_S = 30.0
_MESSAGE_MS = 4_000
_COMMIT_S = 8.0
"""How long a caller waits for a commit. A write whose end is not known by then is settled later, before any other."""
_ABORT_S = 2.0
_TRANSACTION_MS = 300_000
"""After this the broker aborts what is open and takes us for dead: longer than most outages."""
_PAUSE_S = 0.5

_TAKEN_OVER = "another API process has taken over the writing: send the request there"
_UNKNOWN = "Kafka has not confirmed the change in time: it may or may not have been made; look before you repeat it"
_NOT_WRITTEN = "Kafka did not take the change: nothing has been changed; try again"
_UNSEEN = "The change has been made, but Kafka has not shown it yet: look again later"
_UNSETTLED = "Kafka has not settled an earlier change yet: nothing has been changed; try again"

T = TypeVar("T")
Ends = dict[tuple[str, int], int]


class View(Protocol):
    """The process's own view of the topics (`pipeline.kafka.table.Table`)."""

    async def ends(self) -> Ends:
        """Where the topics end now. Raises `Unreachable`."""

    async def caught_up(self, ends: Ends) -> None:
        """Wait until the topics have been read up to there."""


@dataclass(frozen=True, slots=True)
class _Write:
    records: tuple[ControlRecord, ...]
    done: asyncio.Future[None]


class ControlWriter:
    """`async with` takes the place of the writer. `hold` a tenant, check, then `write`: nobody writes in between.

    What waits while a transaction is under way goes into the next one together. librdkafka's transactional calls block:
    they are made in a thread of their own. `ended` is done when this writer can write no more and its process must end:
    with `Fenced` when a newer process has taken the place.
    """

    def __init__(self, settings: Settings, encoder: Encoder, view: View) -> None:
        self._encoder, self._view = encoder, view
        self._producer = Producer(
            producer_config(
                settings,
                transactional_id=TRANSACTIONAL_ID,
                transaction_timeout_ms=_TRANSACTION_MS,
                message_timeout_ms=_MESSAGE_MS,
                linger_ms=0,
            )
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pending: list[_Write] = []
        self._writing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Fence an older writer, end what it left open, and see it in the view. Raises `Unreachable`."""
        try:
            await self._blocking(lambda: self._producer.init_transactions(_INIT_S))
        except KafkaException as error:
            self._thread.shutdown(wait=False)
            raise Unreachable(f"Kafka does not give the writer's place: {error.args[0].str()}") from error
        await self._view.caught_up(await self._view.ends())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is under way."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self._settling is not None:
            self._settling.cancel()
        self._thread.shutdown(wait=False)

    @property
    def troubles(self) -> list[str]:
        """Why no change can be made now."""
        return [_TAKEN_OVER] if self.ended.done() else [_UNSETTLED] if self._settling else []

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Nobody else changes this tenant or its webhooks. Raises `Unreachable` while no change can be made."""
        lock = self._locks.setdefault(tenant, asyncio.Lock())
        async with lock:
            if troubles := self.troubles:
                raise Unreachable(troubles[0])
            yield

    async def write(self, audit: Audit, *changes: Change) -> None:
        """Make the changes and the record of who made them, all or none; return when the view holds the changes.

        Raises `Unreachable` when nothing was changed, or when it is not known yet; the sentence says which.
        """
        records = tuple(record_of(one, self._encoder) for one in (*changes, audit))
        write = _Write(records, asyncio.get_running_loop().create_future())
        self._pending.append(write)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_pending())
        await asyncio.shield(write.done)

    async def _write_pending(self) -> None:
        """One transaction after the other, each with all that waits."""
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                error: BaseException | None = await self._write_all([one for write in batch for one in write.records])
            except Exception as unforeseen:  # noqa: BLE001 - handed to those who wait, and ends the process
                error = unforeseen
                self._end(unforeseen)
            for write in batch:
                _answer(write.done, error)
        self._writing = None

    async def _write_all(self, records: list[ControlRecord]) -> PipelineError | None:
        if troubles := self.troubles:
            return Unreachable(troubles[0])
        try:
            ends = await self._blocking(lambda: self._transaction(records))
        except KafkaException as error:
            return self._failed(error.args[0])
        return await self._seen(ends)

    async def _seen(self, ends: Ends) -> PipelineError | None:
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self._view.caught_up(ends)
        except TimeoutError:
            self._settling = asyncio.create_task(self._settle(None))
            return Unreachable(_UNSEEN)
        return None

    def _transaction(self, records: Sequence[ControlRecord]) -> Ends:
        """In the thread. Where the topics must have been read up to, to hold these records.

        What the broker makes us abort is tried once more: after an outage the first may only raise the epoch.
        """
        try:
            return self._try(records)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort() or not self._aborted():
                raise
        return self._try(records)

    def _aborted(self) -> bool:
        try:
            self._producer.abort_transaction(_ABORT_S)
        except KafkaException:  # its cause is told by the error before; the abort is repeated when that is handled
            return False
        return True

    def _try(self, records: Sequence[ControlRecord]) -> Ends:
        ends: Ends = {}

        def reported(error: KafkaError | None, message: Message) -> None:
            if error is None and message.topic() != AUDIT:  # which no view holds
                place = (message.topic() or "", message.partition() or 0)
                ends[place] = max(ends.get(place, 0), (message.offset() or 0) + 1)

        self._producer.begin_transaction()
        for record in records:
            self._producer.produce(record.topic, record.value, record.key.encode(), on_delivery=reported)
        self._producer.commit_transaction(_COMMIT_S)
        return ends

    def _failed(self, error: KafkaError) -> PipelineError:
        """What a failed transaction means. What is not settled is settled in the background."""
        if _hopeless(error):
            self._end(_ending(error))
            return Unreachable(_TAKEN_OVER)
        finish = self._producer.abort_transaction if error.txn_requires_abort() else self._producer.commit_transaction
        self._settling = asyncio.create_task(self._settle(finish))
        return Unreachable(_NOT_WRITTEN if error.txn_requires_abort() else _UNKNOWN)

    async def _settle(self, finish: Callable[[float], None] | None) -> None:
        """Repeat the call that was cut short until the broker has answered it, then be as new as the broker."""
        while finish is not None:
            finish = await self._finish(finish)
        await self._view.caught_up(await self._ends())
        self._settling = None

    async def _finish(self, finish: Callable[[float], None]) -> Callable[[float], None] | None:
        """Try once more; what is still to be done, None when nothing is."""
        try:
            await self._blocking(lambda: finish(_COMMIT_S))
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if _hopeless(error):
                self._end(_ending(error))
                return None
            await asyncio.sleep(_PAUSE_S)
            return self._producer.abort_transaction if error.txn_requires_abort() else finish
        return None

    async def _ends(self) -> Ends:
        """Waits for a broker that is down."""
        while True:
            try:
                return await self._view.ends()
            except Unreachable:
                await asyncio.sleep(_PAUSE_S)

    def _end(self, reason: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _blocking(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


def _hopeless(error: KafkaError) -> bool:
    """Whether this producer can do nothing more: fenced, or in a state that no further call mends."""
    return error.fatal() or not (error.retriable() or error.txn_requires_abort())


def _ending(error: KafkaError) -> PipelineError:
    if error.code() == KafkaError._FENCED:  # noqa: SLF001 - librdkafka's own errors are public under these names
        return Fenced("a newer API process has taken over the writing of control records")
    return PipelineError(f"control records cannot be written any more: {error.str()}")


def _answer(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
