"""Qase: what happens in a project's test management. Event names as its public reference has them."""

from __future__ import annotations

from pipeline.profiles import _retry
from pipeline.profiles._body import project_event
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._credentials import SecretHeader
from pipeline.profiles._profile import FormField, PlanIn, Profile, Refusals
from pipeline.profiles._rules import actor_is_integer, data_is_object

_VERBS = {"created": "Create", "updated": "Update", "deleted": "Delete", "cloned": "Clone"}


def _entity(component: str, entity: str, noun: str, *verbs: str) -> Component:
    return Component(component, tuple(EventType(f"{entity}.{verb}", f"{_VERBS[verb]} {noun}") for verb in verbs))


_RUN = Component(
    "Test Runs",
    (
        EventType("run.started", "Test run start"),
        EventType("run.aborted", "Test run aborted"),
        EventType("run.updated", "Test cases added to run"),
        EventType("run.deleted", "Delete test run"),
        EventType("run.completed", "Complete test run"),
        EventType("run.report_changed", "Public link turned on"),
    ),
)
_DEFECT = Component(
    "Defects",
    (
        EventType("defect.created", "Create defect"),
        EventType("defect.resolved", "Resolve defect"),
        EventType("defect.deleted", "Delete defect"),
    ),
)
_REVIEW = Component(
    "Reviews",
    (
        EventType("review.created", "Create test review"),
        EventType("review.updated", "Update test review"),
        EventType("review.approval_status_changed", "Approval status change"),
        EventType("review.reviewer_added", "Reviewer added"),
        EventType("review.reviewer_removed", "Reviewer removed"),
        EventType("review.merged", "Merge test review"),
        EventType("review.reopened", "Reopen test review"),
        EventType("review.commented", "Comment test review"),
        EventType("review.declined", "Decline test review"),
        EventType("review.deleted", "Delete test review"),
    ),
)

QASE = Profile(
    name="qase",
    title="Qase",
    tenant_noun="project",
    catalogue=Catalogue(
        (
            _entity("Test Cases", "case", "test case", "created", "updated", "deleted", "cloned"),
            _entity("Test Suites", "suite", "test suite", "created", "updated", "deleted", "cloned"),
            _entity("Test Plans", "plan", "test plan", "created", "updated", "deleted"),
            _entity("Shared Steps", "shared_step", "shared step", "created", "updated", "deleted"),
            _entity("Milestones", "milestone", "milestone", "created", "updated", "deleted"),
            _entity("Custom Fields", "custom_field", "custom field", "created", "updated", "deleted"),
            _RUN,
            _DEFECT,
            _REVIEW,
        )
    ),
    form=(
        FormField("name", "Title", required=True, help="A name for your webhook."),
        FormField("url", "Endpoint", "url", required=True, help="A URL on your side that the public web can reach."),
        FormField("auth.secret", "Secret", "secret", help="Text that is sent as the X-Qase-Secret header."),
        FormField(
            "events", "Events", "events", required=True, help="What sends a request to the endpoint: at least one."
        ),
    ),
    schemes=(SecretHeader("qase_secret", "X-Qase-Secret"),),
    body=project_event,
    rules=(data_is_object, actor_is_integer),
    retry=_retry.STANDARD,
    name_required=True,
    preconditions=(
        PlanIn(
            ("startup", "business", "enterprise"),
            "Webhooks are available in Startup, Business, and Enterprise subscriptions.",
        ),
    ),
    refusals=Refusals(name="A webhook needs a title."),
)
