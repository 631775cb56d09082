"""Standard Webhooks (https://www.standardwebhooks.com): any product that has no page of its own."""

from __future__ import annotations

import re

from pipeline.profiles import _retry
from pipeline.profiles._body import type_timestamp_data
from pipeline.profiles._catalogue import Catalogue
from pipeline.profiles._profile import FormField, Profile
from pipeline.profiles._signing import StandardWebhooks

_TYPE = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

STANDARD = Profile(
    name="standard",
    title="Standard Webhooks",
    tenant_noun="tenant",
    catalogue=Catalogue(pattern=_TYPE),
    form=(
        FormField("name", "Name", help="What this webhook is for."),
        FormField("url", "URL", "url", required=True, help="Where events are sent."),
        FormField(
            "events", "Events", "events", required=True, help="Event types, such as invoice.paid, invoice.* or *."
        ),
        FormField(
            "auth.secret", "Signing secret", "secret", help="Leave it empty and one is generated; it is shown once."
        ),
    ),
    schemes=(StandardWebhooks(),),
    body=type_timestamp_data,
    retry=_retry.STANDARD,
    projects=True,
)
