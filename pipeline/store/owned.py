"""Records that each belong to a tenant or to the platform: by their ids, and in the order of their making."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from pipeline.store.directory import Order, page, readable
from pipeline.store.pages import Page, Place
from pipeline.store.targets import View


class Record(Protocol):
    """What such a record says of itself."""

    @property
    def id(self) -> str:
        """Its key."""

    @property
    def tenant(self) -> str | None:
        """Whose it is; None: the platform's."""

    @property
    def created_ms(self) -> int:
        """When it was made: milliseconds since the epoch."""


R = TypeVar("R", bound=Record)


class Owned(Generic[R]):
    """One topic of a view (`pipeline.kafka.table.Table`), followed; all records, or one tenant's, newest first.

    Records are decoded once, when the first is asked for. One that cannot be read is as if it were not there.
    """

    def __init__(self, view: View, topic: str, decode: Callable[[bytes], R]) -> None:
        self._view, self._topic, self._decode = view, topic, decode
        self._orders: dict[str | None, Order] = {None: Order()}
        view.watch(self._changed)

    @cached_property
    def _held(self) -> dict[str, R]:
        held: dict[str, R] = {}
        for key in self._view.keys(self._topic):
            self._put(held, key)
        return held

    def get(self, key: str) -> R | None:
        """The record of that id."""
        return self._held.get(key)

    def page(self, tenant: str | None, after: Place | None, limit: int) -> Page[R]:
        """The records that follow a place, newest first: the tenant's, or all."""
        held = self._held
        return page(self._orders.get(tenant, Order()), after, limit, held.get)

    def of(self, tenant: str | None) -> Iterator[R]:
        """All records of the tenant, or all that there are."""
        held = self._held
        return iter([held[key] for key in self._orders.get(tenant, Order()).made])

    def _changed(self, topic: str, key: str) -> None:
        if topic == self._topic and "_held" in self.__dict__:
            self._put(self._held, key)

    def _put(self, held: dict[str, R], key: str) -> None:
        if (before := held.pop(key, None)) is not None:
            self._drop(before)
        if (record := readable(self._read, key)) is not None:
            held[key] = record
            for tenant in {None, record.tenant}:
                self._orders.setdefault(tenant, Order()).put(key, record.created_ms)

    def _drop(self, record: R) -> None:
        for tenant in {None, record.tenant}:
            self._orders[tenant].drop(record.id)
        if record.tenant is not None and not self._orders[record.tenant].made:
            del self._orders[record.tenant]

    def _read(self, key: str) -> R | None:
        raw = self._view.get(self._topic, key)
        return None if raw is None else self._decode(raw)
