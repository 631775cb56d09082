"""The bug bounty platform: news of a business unit's reports to its one webhook, over HTTPS and through redirects."""

from __future__ import annotations

from pipeline.profiles import _retry
from pipeline.profiles._body import type_timestamp_data
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._profile import FormField, Profile, ProgramsAtLeast, Refusals
from pipeline.profiles._signing import StandardWebhooks

_REPORT = Component(
    "Report",
    (
        EventType("report.created", "New report", "A new report has been submitted."),
        EventType("comment.created", "Comment", "A new comment has been submitted."),
        EventType("report.assessed", "Triage assessment", "The report has been assessed by triagers."),
    ),
)

BUGBOUNTY = Profile(
    name="bugbounty",
    title="Bug bounty",
    tenant_noun="business unit",
    catalogue=Catalogue((_REPORT,)),
    form=(
        FormField("url", "Webhook URL", "url", required=True, help="The provided URL must be in HTTPS."),
        FormField(
            "events", "Events", "events", required=True, help="Which events you want to receive notifications for."
        ),
        FormField(
            "auth.secret", "Signing secret", "secret", help="Leave it empty and one is generated; it is shown once."
        ),
    ),
    schemes=(StandardWebhooks(),),
    body=type_timestamp_data,
    retry=_retry.STANDARD,
    max_webhooks=1,
    https_only=True,
    max_redirects=5,
    preconditions=(
        ProgramsAtLeast(1, "You must have at least one program in your Business Unit to configure a webhook."),
    ),
    least_role="manager",
    refusals=Refusals(
        role="You must be a Business Unit Owner or a Business Unit Manager to configure a webhook integration.",
        second="A business unit can only have one webhook integration at a time.",
        https="The provided URL must be in HTTPS.",
    ),
)
