"""Inspectorio Quality Risk Management: messages that name a report, whose details the receiver calls back for.

Exactly 200 acknowledges; anything else, or nothing within 60 s, is sent again three times, 60 s apart.
"""

from __future__ import annotations

from pipeline.profiles._body import message_envelope
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._credentials import Basic, Nothing
from pipeline.profiles._profile import FormField, Profile, Refusals
from pipeline.profiles._retry import RetryRule, waits
from pipeline.profiles._rules import data_is_resource
from pipeline.profiles._schemas import INTEGER, STRING, exactly

_RESOURCE = exactly(resourceId=INTEGER, path=STRING)

_REPORT = Component(
    "Report",
    (
        EventType("report.created", "An Inspection report is uploaded", data=_RESOURCE),
        EventType("report.file_ready", "An Inspection report file is ready to view", data=_RESOURCE),
    ),
)
_BASIC = "Basic Authentication"

INSPECTORIO = Profile(
    name="inspectorio",
    title="Inspectorio",
    tenant_noun="account",
    catalogue=Catalogue((_REPORT,)),
    form=(
        FormField(
            "name",
            "Webhook Name",
            required=True,
            help="The purpose or destination of this webhook, e.g. Slack Webhook.",
        ),
        FormField("url", "Webhook URL", "url", required=True, help="The URL of the client that receives the events."),
        FormField(
            "events",
            "Events",
            "events",
            required=True,
            help="At least one; a component's switch selects all of its events.",
        ),
        FormField(
            "auth.username",
            "Username",
            help="Turn this section on if the URL asks for a username and a password.",
            section=_BASIC,
        ),
        FormField("auth.password", "Password", "password", section=_BASIC),
    ),
    schemes=(Nothing(), Basic()),
    body=message_envelope({kind.name: kind.title for kind in _REPORT.types}),
    rules=(data_is_resource,),
    deadline_s=60.0,
    acknowledged=frozenset({200}),
    retry=RetryRule(waits("60s 60s 60s")),
    name_required=True,
    refusals=Refusals(
        role="Webhooks are configured by an admin or the account owner.",
        name="Webhook Name is mandatory.",
        events="Select at least 1 event for your webhook.",
    ),
)
