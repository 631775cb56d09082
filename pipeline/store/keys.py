"""The keys of the REST API: by their ids, and in the order of their making, all of them or one tenant's."""

from __future__ import annotations

from functools import cached_property

from pipeline.flow.access import ApiKey
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import KEYS
from pipeline.store.directory import Order, page, readable
from pipeline.store.pages import Page, Place
from pipeline.store.targets import View


class KeyRing:
    """Follows a view (`pipeline.kafka.table.Table`): what has been revoked there is revoked here.

    Keys are decoded once, when the first is asked for. One that cannot be read opens nothing and is in no list.
    """

    def __init__(self, view: View, codec: Codec) -> None:
        self._view, self._codec = view, codec
        self._orders: dict[str | None, Order] = {None: Order()}
        view.watch(self._changed)

    @cached_property
    def _held(self) -> dict[str, ApiKey]:
        held: dict[str, ApiKey] = {}
        for key in self._view.keys(KEYS):
            self._put(held, key)
        return held

    def key(self, key: str) -> ApiKey | None:
        """The key of that id, also when it has been revoked."""
        return self._held.get(key)

    def keys(self, tenant: str | None, after: Place | None, limit: int) -> Page[ApiKey]:
        """The keys that follow a place, newest first: the tenant's, or all."""
        held = self._held
        return page(self._orders.get(tenant, Order()), after, limit, held.get)

    def of(self, tenant: str) -> list[ApiKey]:
        """All keys of the tenant."""
        held = self._held
        return [held[key] for key in self._orders.get(tenant, Order()).made]

    def _changed(self, topic: str, key: str) -> None:
        if topic == KEYS and "_held" in self.__dict__:
            self._put(self._held, key)

    def _put(self, held: dict[str, ApiKey], key: str) -> None:
        if (before := held.pop(key, None)) is not None:
            self._drop(before)
        if (record := readable(self._read, key)) is not None:
            held[key] = record
            for tenant in {None, record.tenant}:
                self._orders.setdefault(tenant, Order()).put(key, record.created_ms)

    def _drop(self, record: ApiKey) -> None:
        for tenant in {None, record.tenant}:
            self._orders[tenant].drop(record.id)
        if record.tenant is not None and not self._orders[record.tenant].made:
            del self._orders[record.tenant]

    def _read(self, key: str) -> ApiKey | None:
        raw = self._view.get(KEYS, key)
        return None if raw is None else self._codec.decode_api_key(raw)
