from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka.codec import Codec
from pipeline.kafka.topics import ENDPOINT_STATE, SUBSCRIPTIONS, TENANTS
from pipeline.store.secrets import Secrets, Vault, seal_auth, seal_headers
from tests.api.parts import VAULT_KEY, MemoryView, offline_codec

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class World:
    """A view with tenants and webhooks in it, as the API would have written them."""

    view: MemoryView
    codec: Codec
    vault: Vault

    def tenant(self, tenant: str = "acme", profile: str = "standard", made: int = 0, **more: Any) -> Tenant:
        """Write a tenant with a fresh key."""
        fields = {"data_key": self.vault.new_tenant_key(tenant), "created_ms": made, **more}
        record = Tenant(tenant, tenant, profile, **fields)
        self.view.put(TENANTS, tenant, self.codec.encode_tenant(record))
        return record

    def webhook(self, tenant: Tenant, webhook: str = "wh_1", **more: Any) -> Subscription:
        """Write a webhook that takes everything."""
        vault = self.vault.tenant_vault(tenant)
        previous = more.pop("previous", ())
        sealed = seal_auth(vault, tenant.id, webhook, Secrets({"secret": SECRET}, previous), 1)
        headers = seal_headers(vault, tenant.id, webhook, {"X-Team": "blue"}, 1)
        fields = {"url": "https://example.com/", "auth": Auth("standard_webhooks", sealed), "headers": headers, **more}
        record = Subscription(tenant.id, webhook, events=("*",), **fields)
        self.view.put(SUBSCRIPTIONS, record.path, self.codec.encode_subscription(record))
        return record

    def state(self, webhook: Subscription, **more: Any) -> EndpointState:
        """Write what the senders know of its endpoint."""
        record = EndpointState(webhook.tenant, webhook.webhook, **{"generation": webhook.generation, **more})
        self.view.put(ENDPOINT_STATE, record.path, self.codec.encode_endpoint_state(record))
        return record


@pytest.fixture
def world() -> World:
    return World(MemoryView(), offline_codec(), Vault((VAULT_KEY,)))
