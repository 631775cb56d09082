"""The bug bounty platform: news of a business unit's reports to its one webhook, over HTTPS and through redirects."""

from __future__ import annotations

from pipeline.profiles import _retry
from pipeline.profiles._body import type_timestamp_data
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._profile import FormField, Profile, ProgramsAtLeast, Refusals
from pipeline.profiles._schemas import INTEGER, NUMBER, STRING, each, record
from pipeline.profiles._signing import StandardWebhooks

_OF_REPORT = {**each(STRING, "report_id program title severity"), "cvss": NUMBER}
_SUBMITTED = record("report_id", _OF_REPORT, each(STRING, "researcher submitted_at url"))
_ASSESSED = record("report_id", _OF_REPORT, each(STRING, "assessment triager assessed_at"))
_COMMENT = record("report_id", each(STRING, "report_id author body created_at"), comment_id=INTEGER)

_REPORT = Component(
    "Report",
    (
        EventType("report.created", "New report", "A new report has been submitted.", _SUBMITTED),
        EventType("comment.created", "Comment", "A new comment has been submitted.", _COMMENT),
        EventType("report.assessed", "Triage assessment", "The report has been assessed by triagers.", _ASSESSED),
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
