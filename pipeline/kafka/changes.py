"""What the API may change of the control topics, and each change as the record that it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, assert_never

from pipeline.flow.access import ApiKey
from pipeline.flow.audit import Audit
from pipeline.flow.cancels import Cancel
from pipeline.flow.replay import Replay
from pipeline.flow.subscription import Subscription, Tenant
from pipeline.flow.trials import WebhookTest
from pipeline.kafka.topics import AUDIT, CANCELS, KEYS, REPLAYS, SUBSCRIPTIONS, TENANTS, WEBHOOK_TESTS

PLATFORM = "_platform"
"""The key of audit records that belong to no tenant."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A tenant, or a webhook of it, that is no more."""

    tenant: str
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A record of another control topic (`keys`, `webhook-tests`, `cancels`, `replays`) that is no more."""

    topic: str
    key: str


Change = Tenant | Subscription | ApiKey | WebhookTest | Cancel | Replay | Removed | Forgotten


class Encoder(Protocol):
    """Records to bytes (`pipeline.kafka.codec.Codec`)."""

    def encode_tenant(self, tenant: Tenant) -> bytes:
        """A record of `tenants`."""

    def encode_subscription(self, subscription: Subscription) -> bytes:
        """A record of `subscriptions`."""

    def encode_api_key(self, key: ApiKey) -> bytes:
        """A record of `keys`."""

    def encode_webhook_test(self, test: WebhookTest) -> bytes:
        """A record of `webhook-tests`."""

    def encode_cancel(self, cancel: Cancel) -> bytes:
        """A record of `cancels`."""

    def encode_replay(self, replay: Replay) -> bytes:
        """A record of `replays`."""

    def encode_audit(self, audit: Audit) -> bytes:
        """A record of `audit`."""


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """A record to be written; value None is a tombstone."""

    topic: str
    key: str
    value: bytes | None


def record_of(change: Change | Audit, encoder: Encoder) -> ControlRecord:  # noqa: C901, PLR0911 - one for each kind
    """The one record that makes the change."""
    match change:
        case Tenant():
            return ControlRecord(TENANTS, change.id, encoder.encode_tenant(change))
        case Subscription():
            return ControlRecord(SUBSCRIPTIONS, change.path, encoder.encode_subscription(change))
        case ApiKey():
            return ControlRecord(KEYS, change.id, encoder.encode_api_key(change))
        case WebhookTest():
            return ControlRecord(WEBHOOK_TESTS, change.path, encoder.encode_webhook_test(change))
        case Cancel():
            return ControlRecord(CANCELS, change.delivery, encoder.encode_cancel(change))
        case Replay():
            return ControlRecord(REPLAYS, change.id, encoder.encode_replay(change))
        case Removed(tenant, None):
            return ControlRecord(TENANTS, tenant, None)
        case Removed(tenant, webhook):
            return ControlRecord(SUBSCRIPTIONS, f"{tenant}/{webhook}", None)
        case Forgotten(topic, key):
            return ControlRecord(topic, key, None)
        case Audit():
            return ControlRecord(AUDIT, change.tenant or PLATFORM, encoder.encode_audit(change))
    assert_never(change)
