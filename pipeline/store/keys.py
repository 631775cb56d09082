"""The keys of the REST API: by their ids, and in the order of their making, all of them or one tenant's."""

from __future__ import annotations

from pipeline.flow.access import ApiKey
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import KEYS
from pipeline.store.owned import Owned
from pipeline.store.pages import Page, Place
from pipeline.store.targets import View


class KeyRing:
    """Follows a view (`pipeline.kafka.table.Table`): what has been revoked there is revoked here.

    One that cannot be read opens nothing and is in no list.
    """

    def __init__(self, view: View, codec: Codec) -> None:
        self._keys: Owned[ApiKey] = Owned(view, KEYS, codec.decode_api_key)

    def key(self, key: str) -> ApiKey | None:
        """The key of that id, also when it has been revoked."""
        return self._keys.get(key)

    def keys(self, tenant: str | None, after: Place | None, limit: int) -> Page[ApiKey]:
        """The keys that follow a place, newest first: the tenant's, or all."""
        return self._keys.page(tenant, after, limit)

    def of(self, tenant: str) -> list[ApiKey]:
        """All keys of the tenant."""
        return list(self._keys.of(tenant))
