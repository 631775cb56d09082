"""What an operator sets reaches the role that it is meant for; no broker is needed to see it refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.cli._wiring import Place, sender
from pipeline.errors import SettingsError
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
