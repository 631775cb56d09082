"""MonitHQ: incidents and the state of sites, signed over the raw body. Exactly 200 acknowledges."""

from __future__ import annotations

from pipeline.profiles import _retry
from pipeline.profiles._body import event_timestamp_data
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._profile import FormField, Profile
from pipeline.profiles._schemas import INTEGER, NUMBER, STRING, each, listing, record
from pipeline.profiles._signing import BodyHmac

_INCIDENT_DATA = record(
    "incident_id",
    each(STRING, "incident_id site_id site_name severity started_at resolved_at cause note"),
    duration_seconds=NUMBER,
)
_SITE_DATA = record(
    "site_name",
    each(STRING, "site_id site_name url"),
    each(NUMBER, "interval_seconds down_seconds response_ms threshold_ms"),
    status_code=INTEGER,
    checked_from=listing(STRING),
)

_INCIDENT = Component(
    "Incident",
    (
        EventType("incident_created", "Incident created", "A new incident is open.", _INCIDENT_DATA),
        EventType("incident_updated", "Incident updated", "An open incident has changed.", _INCIDENT_DATA),
        EventType("incident_resolved", "Incident resolved", "An incident is over.", _INCIDENT_DATA),
    ),
)
_SITE = Component(
    "Site",
    (
        EventType("site_down", "Site down", "A site does not answer.", _SITE_DATA),
        EventType("site_up", "Site up", "A site answers again.", _SITE_DATA),
        EventType("site_degraded", "Site degraded", "A site answers slowly or in part.", _SITE_DATA),
        EventType("site_created", "Site created", "A site is watched from now on.", _SITE_DATA),
        EventType("site_deleted", "Site deleted", "A site is no longer watched.", _SITE_DATA),
    ),
)

MONITHQ = Profile(
    name="monithq",
    title="MonitHQ",
    tenant_noun="account",
    catalogue=Catalogue((_INCIDENT, _SITE)),
    form=(
        FormField("name", "Name", help="What this webhook is for."),
        FormField(
            "url", "Endpoint", "url", required=True, help="A publicly accessible URL that answers with HTTP 200."
        ),
        FormField("events", "Events", "events", required=True, help="Incidents, sites, or single events."),
        FormField(
            "auth.secret",
            "Webhook secret",
            "secret",
            help="Validates the X-MonitHQ-Signature header; generated if left empty.",
        ),
    ),
    schemes=(BodyHmac("monithq_hmac", "X-MonitHQ-Signature"),),
    body=event_timestamp_data,
    acknowledged=frozenset({200}),
    retry=_retry.STANDARD,
)
