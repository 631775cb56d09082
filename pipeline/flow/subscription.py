"""Who wants which events, where: the records that control the flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret, encrypted (AES-256-GCM) for one record, field and version: see `pipeline.store.secrets`.

    `key` names the key that sealed it; `version` is part of the associated data and counts the sealings of this field.
    """

    key: str
    version: int
    box: bytes


@dataclass(frozen=True, slots=True)
class Auth:
    """How a webhook's requests prove who sent them: the scheme by name, its secrets sealed (none for scheme `none`)."""

    type: str
    sealed: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook as the router and the sender see it. Times are milliseconds since the epoch.

    `events` holds exact types, `prefix*` and `*`; `components` whole components of the product's catalogue. `rate` is
    requests per second. `filter` and `projection` are JMESPath (see `pipeline.flow.filters`): which events' content it
    wants, and what of it. `generation` is raised by an activation and by an edit of URL or authentication; an
    endpoint's state of an older one counts for nothing. `headers` (sealed: a customer may put a token there) go with
    every request; `client_certificate` (sealed, with its key) is shown to an endpoint that asks for one. One with a
    `replay` is that replay's endpoint alone: no event is routed to it, and no list shows it.
    """

    tenant: str
    webhook: str
    url: str
    events: tuple[str, ...]
    auth: Auth
    name: str | None = None
    components: tuple[str, ...] = ()
    active: bool = True
    headers: Sealed | None = None
    client_certificate: Sealed | None = None
    filter: str | None = None
    rate: float | None = None
    max_in_flight: int | None = None
    generation: int = 1
    version: int = 1
    created_ms: int = 0
    updated_ms: int = 0
    projection: str | None = None
    replay: str | None = None

    @property
    def path(self) -> str:
        """The record's key: `tenant/webhook`."""
        return f"{self.tenant}/{self.webhook}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of a product: a company, an account, a project, a business unit.

    `data_key` is the tenant's own key, sealed by the deployment's; it seals the secrets of the tenant's webhooks, so
    that removing this record makes them unreadable wherever they still lie. `validation` says what the REST API does
    with an event whose data is not what the catalogue says: `off`, `warn` or `enforce`.
    """

    id: str
    name: str
    profile: str
    plan: str | None = None
    programs: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    data_key: Sealed | None = None
    created_ms: int = 0
    updated_ms: int = 0
    validation: str = "off"
