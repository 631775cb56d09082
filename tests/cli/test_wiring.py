"""What an operator sets reaches the role that it is meant for; no broker is needed to see it refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.cli._wiring import Place, router, sender
from pipeline.errors import SettingsError, UsageError
from pipeline.settings import Settings

SETTINGS = Settings(encryption_keys=f"test:{base64.b64encode(bytes(32)).decode()}")


@pytest.mark.egress
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("egress_allow", "10.0.0.1/8"),
        ("egress_ca", "not-there.pem"),
        ("egress_proxy", "proxy:3128"),
        ("egress_name_servers", "dns.example"),
    ],
)
async def test_the_sender_heeds_the_settings_of_egress(name: str, wrong: str) -> None:
    """A sender whose egress settings cannot be used does not start, and names the setting."""
    changed: dict[str, Any] = {name: wrong}
    settings = replace(SETTINGS, **changed)
    with pytest.raises(SettingsError, match=name.replace("_", " ").removesuffix(" ca")):
        async with sender(Place(settings, "sender-0", None, CollectorRegistry())):
            pass


@pytest.mark.replay
@pytest.mark.parametrize("to", ["attempts", "events", "retry-5s", "retry-9h"])
async def test_a_router_by_hand_writes_to_no_other_topic_of_the_flow(to: str) -> None:
    """Where something else reads deliveries they would be poison, or waits that nobody asked for."""
    with pytest.raises(UsageError, match=f"--to {to}: a router writes to deliveries or deliveries-replay"):
        async with router(Place(SETTINGS, "router-0", None, CollectorRegistry(), "mine", to)):
            pass
